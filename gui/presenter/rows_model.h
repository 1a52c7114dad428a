#pragma once
// A small table of texts as an item model: the table twin of a chart, and what Compare and Run
// list.

#include <QAbstractTableModel>
#include <QStringList>
#include <vector>

namespace imhotep::gui {

class RowsModel : public QAbstractTableModel {
  Q_OBJECT
 public:
  explicit RowsModel(QObject* parent = nullptr) : QAbstractTableModel(parent) {}

  // Requires: rows as long as the headers; shorter ones are filled with empty texts.
  void set(QStringList headers, std::vector<QStringList> rows);
  [[nodiscard]] const std::vector<QStringList>& rows() const { return rows_; }

  [[nodiscard]] int rowCount(const QModelIndex& parent = {}) const final;
  [[nodiscard]] int columnCount(const QModelIndex& parent = {}) const final;
  [[nodiscard]] QVariant data(const QModelIndex& index, int role) const final;
  [[nodiscard]] QVariant headerData(int section, Qt::Orientation orientation, int role) const final;

 private:
  QStringList headers_;
  std::vector<QStringList> rows_;
};

// A table as text for other programs.
[[nodiscard]] QString csv_of(const QStringList& headers, const std::vector<QStringList>& rows);
[[nodiscard]] QString markdown_of(const QStringList& headers, const std::vector<QStringList>& rows);

}  // namespace imhotep::gui
