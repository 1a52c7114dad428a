#pragma once
// The question as a form. Its lines come from the field lists; nothing is written twice. A wrong
// value is framed and explained, and the question stays as it was.

#include <QComboBox>
#include <QLabel>
#include <QLineEdit>
#include <map>

#include "gui/presenter/explorer.h"

namespace imhotep::gui {

class AskPanel : public QWidget {
  Q_OBJECT
 public:
  explicit AskPanel(Explorer& explorer, QWidget* parent = nullptr);
  // The editor of a field; nullptr when there is none.
  [[nodiscard]] QWidget* editor(const QString& path) const;

 private:
  void build();
  void build_choices(class QVBoxLayout& layout);
  void refresh();
  void submit(const QString& path, const QString& text, QWidget* editor);
  void choose_model(const QString& name);
  void choose_cluster(const QString& name);
  void find(const QString& words);

  Explorer& explorer_;
  QComboBox *model_ = nullptr, *cluster_ = nullptr, *kind_ = nullptr;
  QLineEdit* search_ = nullptr;
  QLabel* problem_ = nullptr;
  struct Line {
    QWidget *label, *editor;
    QString words;  // what a search looks in
    class QGroupBox* section;
  };
  std::map<QString, Line> lines_;
};

}  // namespace imhotep::gui
