#include "gui/presenter/rows_model.h"

#include "gui/presenter/basics.h"

namespace imhotep::gui {
namespace {

bool looks_like_number(const QString& text) {
  return !text.isEmpty() &&
         (text[0].isDigit() || ((text[0] == '-' || text[0] == QChar(0x2212) || text[0] == '+') &&
                                text.size() > 1 && text[1].isDigit()));
}

}  // namespace

void RowsModel::set(QStringList headers, std::vector<QStringList> rows) {
  beginResetModel();
  headers_ = std::move(headers);
  rows_ = std::move(rows);
  for (QStringList& row : rows_) {
    while (row.size() < headers_.size()) row << QString();
  }
  endResetModel();
}

int RowsModel::rowCount(const QModelIndex& parent) const {
  return parent.isValid() ? 0 : count_of(rows_);
}

int RowsModel::columnCount(const QModelIndex& parent) const {
  return parent.isValid() ? 0 : count_of(headers_);
}

QVariant RowsModel::data(const QModelIndex& index, int role) const {
  if (!index.isValid() || index.row() >= count_of(rows_)) return {};
  const QString& text = rows_[index.row()][index.column()];
  if (role == Qt::DisplayRole) return text;
  if (role == Qt::TextAlignmentRole) {
    return QVariant::fromValue<int>(
        (index.column() > 0 && looks_like_number(text) ? Qt::AlignRight : Qt::AlignLeft) |
        Qt::AlignVCenter);
  }
  return {};
}

QVariant RowsModel::headerData(int section, Qt::Orientation orientation, int role) const {
  if (role != Qt::DisplayRole) return {};
  if (orientation == Qt::Vertical) return section + 1;
  return section < headers_.size() ? headers_[section] : QVariant();
}

QString csv_of(const QStringList& headers, const std::vector<QStringList>& rows) {
  const auto line = [](const QStringList& cells) {
    QStringList quoted;
    for (const QString& cell : cells) {
      const bool plain = !cell.contains(',') && !cell.contains('"') && !cell.contains('\n');
      quoted << (plain ? cell : "\"" + QString(cell).replace("\"", "\"\"") + "\"");
    }
    return quoted.join(',') + "\n";
  };
  QString text = line(headers);
  for (const QStringList& row : rows) text += line(row);
  return text;
}

QString markdown_of(const QStringList& headers, const std::vector<QStringList>& rows) {
  const auto line = [](const QStringList& cells) {
    QStringList escaped;
    for (const QString& cell : cells) escaped << QString(cell).replace("|", "\\|");
    return "| " + escaped.join(" | ") + " |\n";
  };
  QString text = line(headers) + "|" + QString("---|").repeated(headers.size()) + "\n";
  for (const QStringList& row : rows) text += line(row);
  return text;
}

}  // namespace imhotep::gui
