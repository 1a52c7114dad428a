// The menus of the window. Every command is an action with a text and, where people will use it
// often, a shortcut.

#include <QClipboard>
#include <QDockWidget>
#include <QFileDialog>
#include <QGuiApplication>
#include <QInputDialog>
#include <QMenuBar>
#include <QMessageBox>

#include "core/base/error.h"
#include "core/base/json_document.h"
#include "gui/app/main_window.h"
#include "gui/presenter/basics.h"
#include "gui/presenter/search_file.h"
#include "gui/views/panel.h"
#include "gui/views/theme.h"

namespace imhotep::gui {
namespace {

// Runs what may throw; tells why it did not work.
void attempt(QWidget& window, const QString& what, const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    QMessageBox::warning(&window, what, qt(error.what()));
  }
}

}  // namespace

QAction* MainWindow::add(QMenu& menu, const QString& text, const QKeySequence& keys,
                         const std::function<void()>& act) {
  auto* action = new QAction(text, this);
  action->setShortcut(keys);
  action->setObjectName(QString(text).remove('&').remove("…").trimmed());
  connect(action, &QAction::triggered, this, act);
  menu.addAction(action);
  addAction(action);
  actions_.push_back(action);
  return action;
}

void MainWindow::build_file_menu() {
  QMenu& menu = *menuBar()->addMenu("&File");
  add(menu, "&Open…", QKeySequence::Open, [this] { open_dialog(); });
  recent_ = menu.addMenu("Open &recent");
  refresh_recent();
  add(menu, "&Sample question", {}, [this] { explorer_.ask(sample_question(), "sample"); });
  menu.addSeparator();
  add(menu, "Save chosen &plan…", QKeySequence::Save, [this] { save_plan(); });
  add(menu, "Save all p&lans…", QKeySequence("Ctrl+Alt+S"), [this] { save_search(); });
  add(menu, "Save s&ession…", QKeySequence("Ctrl+Shift+S"), [this] { save_session(); });
  add(menu, "Save &deployment folder…", QKeySequence("Ctrl+Shift+D"),
      [this] { save_deployment(); });
  menu.addSeparator();
  add(menu, "&Export view as picture…", QKeySequence("Ctrl+E"), [this] { export_page(); });
  menu.addSeparator();
  add(menu, "&Quit", QKeySequence::Quit, [this] { close(); });
}

void MainWindow::build_edit_menu() {
  QMenu& menu = *menuBar()->addMenu("&Edit");
  QUndoStack& history = explorer_.history();
  for (const bool back : {true, false}) {
    QAction* action = back ? history.createUndoAction(this) : history.createRedoAction(this);
    action->setShortcut(back ? QKeySequence::Undo : QKeySequence::Redo);
    action->setObjectName(back ? "Undo" : "Redo");
    menu.addAction(action);
    actions_.push_back(action);
  }
  menu.addSeparator();
  add(menu, "Copy plans as &CSV", QKeySequence("Ctrl+Shift+C"),
      [this] { explore_->copy(CopyFormat::Csv); });
  add(menu, "Copy plans as &Markdown", QKeySequence("Ctrl+Shift+M"),
      [this] { explore_->copy(CopyFormat::Markdown); });
  add(menu, "Copy co&mmand line", QKeySequence("Ctrl+Shift+L"), [this] { repeat_command(); });
  menu.addSeparator();
  add(menu, "&Filter plans", QKeySequence::Find, [this] {
    show_page("explore");
    explore_->focus_filter();
  });
  add(menu, "Choose co&lumns…", QKeySequence("Ctrl+Shift+K"),
      [this] { explore_->choose_columns(); });
}

void MainWindow::build_view_menu() {
  QMenu& menu = *menuBar()->addMenu("&View");
  const QStringList names = page_names();
  for (int i = 0; i < count_of(names); ++i) {
    add(menu, "Show " + tabs_->tabText(i).mid(3), QKeySequence(QString("Ctrl+%1").arg(i + 1)),
        [this, name = names[i]] { show_page(name); });
  }
  menu.addSeparator();
  add(menu, "Show or hide the &question", QKeySequence("Ctrl+Shift+Q"),
      [this] { show_question(question_->isHidden()); });
  add(menu, "Chart as &table", QKeySequence("Ctrl+T"), [this] { toggle_table(); });
  add(menu, "Next &pane", QKeySequence("F6"), [this] { next_pane(); });
  menu.addSeparator();
  for (const Theme& candidate : themes()) {
    add(menu, "Theme: " + candidate.title, {}, [this, name = candidate.name] { set_theme(name); });
  }
  add(menu, "&Larger text", QKeySequence::ZoomIn, [this] { set_font_scale(font_scale_ + 0.1); });
  add(menu, "S&maller text", QKeySequence::ZoomOut, [this] { set_font_scale(font_scale_ - 0.1); });
  add(menu, "Usual te&xt size", QKeySequence("Ctrl+0"), [this] { set_font_scale(1); });
}

void MainWindow::build_plan_menu() {
  QMenu& menu = *menuBar()->addMenu("&Plan");
  add(menu, "Choose the &best plan", QKeySequence("Ctrl+B"), [this] {
    if (explorer_.plans()) explorer_.select(explorer_.plans()->best);
  });
  add(menu, "Compare with the &chosen plan", QKeySequence("Ctrl+M"),
      [this] { explorer_.set_reference(true); });
  add(menu, "Compare with the be&st plan", QKeySequence("Ctrl+Shift+B"),
      [this] { explorer_.set_reference(false); });
  add(menu, "What &matters most?", QKeySequence("Ctrl+Shift+W"), [this] {
    show_page("whatif");
    if (explorer_.has_question()) explorer_.find_sensitivities();
  });
  add(menu, "&Reset what if", {}, [this] { explorer_.reset_knobs(); });
  add(menu, "S&top what is going on", QKeySequence("Ctrl+."), [this] { explorer_.cancel(); });
}

void MainWindow::build_help_menu() {
  QMenu& menu = *menuBar()->addMenu("&Help");
  add(menu, "All &commands…", QKeySequence("Ctrl+Shift+P"),
      [this] { show_palette(*this, actions_); });
  add(menu, "&Shortcuts", QKeySequence("F1"), [this] { show_shortcuts(*this, actions_); });
  add(menu, "&About", {}, [this] {
    QMessageBox::about(this, "Imhotep, plan explorer",
                       "Imhotep plans, simulates, runs and measures PR-MoE transformers.\n\n"
                       "This window links Qt 6 (LGPL-3) and QCustomPlot (GPL-3), and is therefore "
                       "distributed under the GPL-3; the program imhotep is not.");
  });
}

void MainWindow::refresh_recent() {
  recent_->clear();
  for (const QString& file : explorer_.recent_files()) {
    recent_->addAction(file, this, [this, file] { explorer_.open(file); });
  }
  recent_->setEnabled(!explorer_.recent_files().isEmpty());
}

void MainWindow::open_dialog() {
  const QStringList files = QFileDialog::getOpenFileNames(
      this, "Open", {}, "Files of Imhotep (*.json *.search *.session);;All files (*)");
  for (const QString& file : files) explorer_.open(file);
}

void MainWindow::save_plan() {
  const Details detail = explorer_.detail();
  if (!detail) return tell("No plan is chosen.", true);
  const QString file =
      QFileDialog::getSaveFileName(this, "Save the chosen plan", "plan.json", "Plans (*.json)");
  if (file.isEmpty()) return;
  attempt(*this, "Save", [&] {
    write_plan(detail->plan, plain(file));
    tell("Saved as " + file, false);
  });
}

void MainWindow::save_search() {
  if (!explorer_.plans()) return tell("There are no plans yet.", true);
  const QString file =
      QFileDialog::getSaveFileName(this, "Save all plans", "plans.search", "Searches (*.search)");
  if (file.isEmpty()) return;
  attempt(*this, "Save", [&] {
    write_search(*explorer_.plans(), file);
    tell("Saved as " + file, false);
  });
}

// By the program imhotep, which knows the launchers.
void MainWindow::save_deployment() {
  const Details detail = explorer_.detail();
  if (!detail) return tell("No plan is chosen.", true);
  if (deployment_.is_running()) return tell("A deployment folder is being written.", true);
  bool chosen = false;
  const QString target =
      QInputDialog::getItem(this, "Deployment folder", "Run the plan with",
                            {"mpirun", "slurm", "kubernetes", "docker"}, 0, false, &chosen);
  if (!chosen) return;
  const QString folder =
      QFileDialog::getSaveFileName(this, "New deployment folder", "deploy-" + qt(detail->hash));
  if (folder.isEmpty()) return;
  attempt(*this, "Save", [&] {
    const QString plan = QDir::tempPath() + "/imhotep-plan-" + qt(detail->hash) + ".json";
    write_plan(detail->plan, plain(plan));
    deployment_.start({"export", plan, "--to", target, "-o", folder}, {});
    tell("Writing " + folder + " …", false);
  });
}

void MainWindow::save_session() {
  if (!explorer_.has_question()) return tell("Nothing has been asked yet.", true);
  const QString file = QFileDialog::getSaveFileName(this, "Save the session", "imhotep.session",
                                                    "Sessions (*.session)");
  if (file.isEmpty()) return;
  attempt(*this, "Save", [&] {
    write_session(session(), file);
    tell("Saved as " + file, false);
  });
}

void MainWindow::export_page() {
  QWidget* shown = tabs_->currentWidget();
  shown->setAccessibleName(tabs_->tabText(tabs_->currentIndex()).mid(3));
  export_with_dialog(*shown);
}

void MainWindow::repeat_command() {
  if (!explorer_.has_question()) return tell("Nothing has been asked yet.", true);
  const RepeatedCommand repeated = command_of(with_knobs(explorer_.question(), explorer_.knobs()));
  QGuiApplication::clipboard()->setText(repeated.command);
  if (repeated.files.empty()) return tell("Copied: " + repeated.command, false);
  QStringList names;
  for (const auto& [name, text] : repeated.files) names << name;
  const auto answer = QMessageBox::question(
      this, "Command line",
      QString("%1\n\nis copied. It reads %2, because the question is not in the catalogue. Save "
              "them into a folder now?")
          .arg(repeated.command, names.join(", ")));
  if (answer != QMessageBox::Yes) return;
  const QString folder = QFileDialog::getExistingDirectory(this, "Folder for the files");
  if (folder.isEmpty()) return;
  attempt(*this, "Save", [&] {
    for (const auto& [name, text] : repeated.files) {
      write_text_file(plain(folder + "/" + name), text);
    }
  });
}

void MainWindow::toggle_table() {
  for (Panel* panel : tabs_->currentWidget()->findChildren<Panel*>()) {
    if (panel->isVisible()) panel->show_table(!panel->shows_table());
  }
}

void MainWindow::next_pane() {
  std::vector<QWidget*> panes = {ask_, tabs_->tabBar()};
  QWidget* page = tabs_->currentWidget();
  for (Chart* chart : page->findChildren<Chart*>()) {
    if (chart->isVisible()) panes.push_back(chart);
  }
  for (QTableView* table : page->findChildren<QTableView*>()) {
    if (table->isVisible()) panes.push_back(table);
  }
  std::size_t next = 0;
  for (std::size_t i = 0; i < panes.size(); ++i) {
    QWidget* focus = QApplication::focusWidget();
    if (focus != nullptr && (focus == panes[i] || panes[i]->isAncestorOf(focus))) {
      next = (i + 1) % panes.size();
    }
  }
  QWidget* pane = panes[next];
  if (pane == ask_) pane = ask_->editor("goal.gpus");
  pane->setFocus(Qt::TabFocusReason);
}

}  // namespace imhotep::gui
