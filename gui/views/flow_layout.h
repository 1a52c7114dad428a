#pragma once
// Controls in a line, and in as many lines as a narrow window needs.

#include <QLayout>
#include <vector>

namespace imhotep::gui {

// From left to right, a new line where the next item has no room. Items with an expanding width
// share what is left of their line. Trailing items come after all others, at the right end of the
// last line.
class FlowLayout : public QLayout {
 public:
  explicit FlowLayout(QWidget* parent = nullptr) : QLayout(parent) {}
  ~FlowLayout() override;

  void add_trailing(QWidget* widget);  // other items come before those that are trailing

  void addItem(QLayoutItem* item) override;
  [[nodiscard]] int count() const override;
  [[nodiscard]] QLayoutItem* itemAt(int index) const override;
  QLayoutItem* takeAt(int index) override;
  [[nodiscard]] bool hasHeightForWidth() const override { return true; }
  [[nodiscard]] int heightForWidth(int width) const override;
  [[nodiscard]] QSize sizeHint() const override;     // one line
  [[nodiscard]] QSize minimumSize() const override;  // an item a line, without their heights
  [[nodiscard]] Qt::Orientations expandingDirections() const override { return Qt::Horizontal; }
  void setGeometry(const QRect& room) override;

 private:
  struct Line {
    int first = 0, end = 0;  // items
    int width = 0, height = 0;
  };
  [[nodiscard]] std::vector<Line> lines(int width) const;
  [[nodiscard]] int gap() const;
  void place(const Line& line, const QRect& room);

  std::vector<QLayoutItem*> items_;
  int trailing_ = 0;  // how many, at the end of items_
};

// A widget that keeps two side by side, as a label and what it names.
[[nodiscard]] QWidget* side_by_side(QWidget* first, QWidget* second);

}  // namespace imhotep::gui
