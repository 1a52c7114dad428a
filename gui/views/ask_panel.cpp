#include "gui/views/ask_panel.h"

#include <QCheckBox>
#include <QFormLayout>
#include <QGroupBox>
#include <QScrollArea>
#include <QVBoxLayout>

#include "core/base/error.h"
#include "gui/presenter/basics.h"
#include "gui/presenter/form.h"
#include "gui/views/panel.h"
#include "profiles/catalogue.h"

namespace imhotep::gui {
namespace {

QString section_title(const QString& section) {
  QString title = QString(section).replace(".", " · ").replace('_', ' ');
  if (!title.isEmpty()) title[0] = title[0].toUpper();
  return title;
}

void fill(QComboBox& box, const std::vector<std::string>& names) {
  for (const std::string& name : names) box.addItem(qt(name));
  box.setSizeAdjustPolicy(QComboBox::AdjustToMinimumContentsLengthWithIcon);
  box.setMinimumContentsLength(16);
}

void set_text(QWidget* editor, const QString& text) {
  const QSignalBlocker quiet(editor);
  if (auto* line = qobject_cast<QLineEdit*>(editor)) {
    if (!line->hasFocus() || !line->isModified()) line->setText(text);
    line->setModified(false);
  } else if (auto* box = qobject_cast<QComboBox*>(editor)) {
    box->setCurrentText(text);
  } else if (auto* check = qobject_cast<QCheckBox*>(editor)) {
    check->setChecked(text == u"yes");
  }
}

// Styling anew is slow, and rarely needed.
void mark(QWidget* editor, bool wrong) {
  if (editor->property("wrong").toBool() == wrong) return;
  editor->setProperty("wrong", wrong);
  editor->style()->polish(editor);
}

}  // namespace

AskPanel::AskPanel(Explorer& explorer, QWidget* parent) : QWidget(parent), explorer_(explorer) {
  build();
  connect(&explorer_, &Explorer::question_changed, this, &AskPanel::refresh);
  refresh();
}

void AskPanel::build_choices(QVBoxLayout& layout) {
  model_ = new QComboBox;
  cluster_ = new QComboBox;
  kind_ = new QComboBox;
  fill(*model_, profiles::model_names());
  fill(*cluster_, profiles::cluster_names());
  kind_->addItems({"training", "generation"});
  auto* form = new QFormLayout;
  form->setFieldGrowthPolicy(QFormLayout::AllNonFixedFieldsGrow);
  form->addRow(label_for("&Model", model_), model_);
  form->addRow(label_for("&Cluster", cluster_), cluster_);
  form->addRow(label_for("&Work", kind_), kind_);
  layout.addLayout(form);
  connect(model_, &QComboBox::textActivated, this, &AskPanel::choose_model);
  connect(cluster_, &QComboBox::textActivated, this, &AskPanel::choose_cluster);
  connect(kind_, &QComboBox::textActivated, this, [this](const QString& kind) {
    const Question& asked = explorer_.question();
    Question changed =
        default_question(asked.model, asked.cluster,
                         kind == u"training" ? WorkloadKind::Training : WorkloadKind::Generation);
    changed.goal.gpus = asked.goal.gpus;
    changed.goal.profile = asked.goal.profile;
    explorer_.ask(changed, "choose " + kind);
  });
}

void AskPanel::build() {
  auto* all = new QVBoxLayout(this);
  all->setContentsMargins(8, 8, 8, 8);
  build_choices(*all);
  search_ = new QLineEdit;
  search_->setPlaceholderText("Find a field: batch, price, memory …");
  search_->setClearButtonEnabled(true);
  search_->setAccessibleName("Find a field");
  connect(search_, &QLineEdit::textChanged, this, &AskPanel::find);
  all->addWidget(search_);
  problem_ = new QLabel;
  problem_->setWordWrap(true);
  problem_->setAccessibleName("What is wrong with the form");
  problem_->hide();
  all->addWidget(problem_);
  auto* inside = new QWidget;
  auto* sections = new QVBoxLayout(inside);
  sections->setContentsMargins(0, 0, 6, 0);
  // What people change most comes first.
  const QStringList order = {"goal", "workload", "limits", "cluster", "model"};
  std::map<QString, std::pair<QGroupBox*, QFormLayout*>> groups;
  std::vector<FormField> fields = form_of(Question{});
  std::stable_sort(fields.begin(), fields.end(), [&](const FormField& a, const FormField& b) {
    return order.indexOf(a.section.section('.', 0, 0)) <
           order.indexOf(b.section.section('.', 0, 0));
  });
  for (const FormField& field : fields) {
    if (field.path == u"workload.kind") continue;
    auto& [group, form] = groups[field.section];
    if (group == nullptr) {
      group = new QGroupBox(section_title(field.section));
      form = new QFormLayout(group);
      form->setFieldGrowthPolicy(QFormLayout::AllNonFixedFieldsGrow);
      form->setRowWrapPolicy(QFormLayout::WrapLongRows);
      sections->addWidget(group);
    }
    QWidget* editor = nullptr;
    const QString path = field.path;
    if (field.kind == FormField::Kind::Choice) {
      auto* box = new QComboBox;
      box->addItems(field.choices);
      connect(box, &QComboBox::textActivated, this,
              [this, path, box](const QString& text) { submit(path, text, box); });
      editor = box;
    } else if (field.kind == FormField::Kind::Flag) {
      auto* check = new QCheckBox;
      connect(check, &QCheckBox::clicked, this,
              [this, path, check](bool on) { submit(path, on ? "yes" : "no", check); });
      editor = check;
    } else {
      auto* line = new QLineEdit;
      connect(line, &QLineEdit::editingFinished, this, [this, path, line] {
        if (line->isModified()) submit(path, line->text(), line);
      });
      editor = line;
    }
    editor->setAccessibleName(section_title(field.section) + ", " + field.label);
    editor->setToolTip(field.help);
    editor->setAccessibleDescription(field.help);
    auto* label = new QLabel(field.label);
    label->setBuddy(editor);
    label->setToolTip(field.help);
    form->addRow(label, editor);
    lines_[path] = {label, editor, (path + " " + field.label + " " + field.help).toLower(), group};
  }
  sections->addStretch(1);
  auto* area = new QScrollArea;
  area->setWidget(inside);
  area->setWidgetResizable(true);
  area->setFrameShape(QFrame::NoFrame);
  area->setFocusPolicy(Qt::NoFocus);
  area->setHorizontalScrollBarPolicy(Qt::ScrollBarAlwaysOff);
  all->addWidget(area, 1);
}

QWidget* AskPanel::editor(const QString& path) const {
  const auto found = lines_.find(path);
  return found == lines_.end() ? nullptr : found->second.editor;
}

void AskPanel::refresh() {
  const Question& asked = explorer_.question();
  for (const FormField& field : form_of(asked)) {
    if (QWidget* widget = editor(field.path)) {
      set_text(widget, field.value);
      mark(widget, false);
    }
  }
  problem_->hide();
  for (auto [box, name] :
       {std::pair{model_, qt(asked.model.name)}, std::pair{cluster_, qt(asked.cluster.name)}}) {
    if (box->findText(name) < 0) box->addItem(name);
    box->setCurrentText(name);
  }
  kind_->setCurrentText(qt(name_of(asked.workload.kind)));
}

void AskPanel::submit(const QString& path, const QString& text, QWidget* editor) {
  bool wrong = false;
  try {
    if (auto* line = qobject_cast<QLineEdit*>(editor)) line->setModified(false);
    explorer_.edit(path, text);
    problem_->hide();
  } catch (const Error& error) {
    wrong = true;
    problem_->setText("⚠ " + qt(error.what()));
    problem_->setAccessibleDescription(qt(error.what()));
    problem_->show();
  }
  mark(editor, wrong);
}

void AskPanel::choose_model(const QString& name) {
  const Question& asked = explorer_.question();
  if (explorer_.has_question() && name == qt(asked.model.name)) return;
  try {
    Question changed =
        default_question(profiles::find_model(plain(name)), asked.cluster, asked.workload.kind);
    changed.goal.gpus = asked.goal.gpus;
    explorer_.ask(changed, "choose " + name);
  } catch (const Error& error) {
    problem_->setText("⚠ " + qt(error.what()));
    problem_->show();
  }
}

void AskPanel::choose_cluster(const QString& name) {
  const Question& asked = explorer_.question();
  if (explorer_.has_question() && name == qt(asked.cluster.name)) return;
  try {
    explorer_.ask(
        default_question(asked.model, profiles::find_cluster(plain(name)), asked.workload.kind),
        "choose " + name);
  } catch (const Error& error) {
    problem_->setText("⚠ " + qt(error.what()));
    problem_->show();
  }
}

void AskPanel::find(const QString& words) {
  std::map<QGroupBox*, bool> any;
  for (auto& [path, line] : lines_) {
    bool found = true;
    for (const QString& word : words.toLower().split(' ', Qt::SkipEmptyParts)) {
      found = found && line.words.contains(word);
    }
    line.label->setVisible(found);
    line.editor->setVisible(found);
    any[line.section] = any[line.section] || found;
  }
  for (const auto& [section, visible] : any) section->setVisible(visible);
}

}  // namespace imhotep::gui
