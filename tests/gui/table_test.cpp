#include <doctest/doctest.h>

#include <QAbstractItemModelTester>
#include <QFile>
#include <random>

#include "core/base/error.h"
#include "gui/presenter/plan_table.h"
#include "gui/presenter/rows_model.h"
#include "gui/presenter/search_file.h"
#include "tests/gui/samples.h"

namespace imhotep::gui {
namespace {

using Mode = QAbstractItemModelTester::FailureReportingMode;

std::string message_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("filters pass the rows that arithmetic passes") {
  const Plans plans = small_plans();
  const auto count = [&](const QString& text) {
    return passing_rows(Filter(text, *plans), *plans).size();
  };
  std::size_t expected = 0;
  for (std::int64_t row = 0; row < plans->size(); ++row) {
    const bool passes = plans->value("tensor", row) <= 4 && plans->value("memory", row) < 30e9;
    expected += passes ? 1 : 0;
  }
  CHECK(count("tensor<=4 && memory<30GB") == expected);
  CHECK(count("") == static_cast<std::size_t>(plans->size()));
  CHECK(count("fits==yes") + count("fits==no") == count(""));
  CHECK(count("!(tensor==1)") == count("tensor!=1"));
  CHECK(count("tensor==1 || tensor==2 && zero==1") == count("tensor==1 || (tensor==2 && zero==1)"));
  CHECK(count("time<1s") == count("time < 1000ms"));
  CHECK(count("recompute==full") + count("recompute==none") == count(""));
}

TEST_CASE("a wrong filter says where, what was expected and what came") {
  const Plans plans = small_plans();
  const auto said = [&](const QString& text) {
    return message_of([&] { (void)Filter(text, *plans); });
  };
  CHECK(said("tensr<=4").find("did you mean \"tensor\"") != std::string::npos);
  CHECK(said("tensor 4").find("< <= > >= == !=") != std::string::npos);
  CHECK(said("tensor<=").find("the end") != std::string::npos);
  CHECK(said("time<5").find("a time such as 12ms") != std::string::npos);
  CHECK(said("memory<lots").find("70GB") != std::string::npos);
  CHECK(said("fits==maybe").find("no, yes") != std::string::npos);
  CHECK(said("(tensor==1").find(")") != std::string::npos);
  CHECK(said("tensor==1 tensor==2").find("&&") != std::string::npos);
  CHECK(said(QString("!").repeated(5000) + "tensor==1").find("nesting") != std::string::npos);
}

TEST_CASE("random texts are filters or errors, never anything else") {
  const Plans plans = small_plans();
  const unsigned seed = 11;
  INFO("seed ", seed);
  std::mt19937 random(seed);
  const QStringList words = {"tensor", "time", "<",   "<=", "==",   "!",  "(",  ")",  "&&", "||",
                             "4",      "5ms",  "yes", "$",  "fits", "µs", "\"", "-1", "1e9"};
  for (int i = 0; i < 2000; ++i) {
    QString text;
    for (unsigned n = random() % 8; n > 0; --n) {
      text += words[static_cast<int>(random() % static_cast<unsigned>(words.size()))] + " ";
    }
    const std::string said = message_of([&] { (void)passing_rows(Filter(text, *plans), *plans); });
    CHECK((said.empty() || said.find("filter, character") == 0));
  }
}

TEST_CASE("the table of plans keeps the contract of item models while it changes") {
  PlanTable table;
  const QAbstractItemModelTester tester(&table, Mode::Fatal);
  table.set_plans(small_plans());
  CHECK(table.rowCount() == small_plans()->size());
  const QPersistentModelIndex kept = table.index(5, 0);
  const std::int64_t plan = table.plan_at(5);
  table.sort(0, Qt::DescendingOrder);
  CHECK(table.plan_at(kept.row()) == plan);
  table.set_filter("tensor<=2");
  table.set_hidden({"memory"});
  table.set_only_differing(true);
  CHECK(table.columnCount() > 0);
  CHECK_THROWS_AS(table.set_filter("nonsense"), Error);
  CHECK(table.filter() == "tensor<=2");
  table.set_plans(nullptr);
  CHECK(table.rowCount() == 0);
}

TEST_CASE("sorting by one column and then another keeps the first order among equals") {
  PlanTable table;
  table.set_plans(small_plans());
  table.sort(table.plans()->index_of("time"), Qt::AscendingOrder);
  table.sort(table.plans()->index_of("tensor"), Qt::DescendingOrder);
  const Plans plans = small_plans();
  for (int row = 1; row < table.rowCount(); ++row) {
    const std::int64_t a = table.plan_at(row - 1), b = table.plan_at(row);
    CHECK(plans->value("tensor", a) >= plans->value("tensor", b));
    if (plans->value("tensor", a) == plans->value("tensor", b)) {
      CHECK(plans->value("time", a) <= plans->value("time", b));
    }
  }
}

TEST_CASE("many plans are sorted and filtered beside the window, and the newest wish wins") {
  const Plans many = many_plans(3 * PlanTable::kAtOnce);
  PlanTable table;
  const QAbstractItemModelTester tester(&table, Mode::Fatal);
  int told = 0;
  QObject::connect(&table, &PlanTable::arranged, [&] { ++told; });
  const auto arranged = [&] { return happens([&] { return !table.is_arranging(); }); };
  table.set_plans(many);
  CHECK(table.rowCount() == many->size());  // there at once, in their own order
  REQUIRE(arranged());
  const int time = many->index_of("time");
  table.sort(time, Qt::DescendingOrder);
  table.sort(time, Qt::AscendingOrder);
  table.set_filter("tensor==2");
  CHECK(table.rowCount() == many->size());
  told = 0;
  REQUIRE(arranged());
  CHECK(told == 1);
  CHECK(table.rowCount() < many->size());
  CHECK(static_cast<int>(table.passing()->size()) == table.rowCount());
  CHECK(std::is_sorted(table.passing()->begin(), table.passing()->end()));
  for (int row = 0; row < table.rowCount(); ++row) {
    REQUIRE(many->value("tensor", table.plan_at(row)) == 2);
    if (row == 0) continue;
    REQUIRE(many->value("time", table.plan_at(row - 1)) <= many->value("time", table.plan_at(row)));
  }
  // Other plans come before the sorting of these has ended.
  table.sort(time, Qt::DescendingOrder);
  table.set_plans(small_plans());
  CHECK(!table.is_arranging());
  CHECK(many->size() > small_plans()->size());
  for (int row = 0; row < table.rowCount(); ++row) {
    CHECK(table.plan_at(row) < small_plans()->size());
  }
}

TEST_CASE("only differing columns leaves out what is the same in all rows") {
  PlanTable table;
  table.set_plans(small_plans());
  table.set_filter("tensor==2");
  table.set_only_differing(true);
  for (int c = 0; c < table.columnCount(); ++c) {
    CHECK(table.column_at(c)->name != "tensor");
    CHECK(table.column_at(c)->name != "gpus");
  }
}

TEST_CASE("plans are copied as CSV with raw numbers and as Markdown as shown") {
  PlanTable table;
  table.set_plans(small_plans());
  table.set_hidden({});
  const QString csv = copy_text(table.copied({0, 1}), CopyFormat::Csv);
  CHECK(csv.count('\n') == 3);
  CHECK(csv.startsWith("time,"));
  CHECK(csv.section('\n', 1, 1).section(',', 0, 0).toDouble() ==
        doctest::Approx(small_plans()->value("time", 0)));
  const QString markdown = copy_text(table.copied({0}), CopyFormat::Markdown);
  CHECK(markdown.contains("|---|"));
  CHECK(csv_of({"a"}, {{"x,\"y\""}}) == "a\n\"x,\"\"y\"\"\"\n");
  CHECK(markdown_of({"a"}, {{"x|y"}}).contains("x\\|y"));
}

TEST_CASE("tables of texts keep the contract of item models") {
  RowsModel model;
  const QAbstractItemModelTester tester(&model, Mode::Fatal);
  model.set({"a", "b"}, {{"1"}, {"2", "3"}});
  CHECK(model.data(model.index(0, 1), Qt::DisplayRole).toString().isEmpty());
  model.set({}, {});
}

TEST_CASE("numbers stand right, whatever their sign, and words left") {
  RowsModel model;
  model.set({"a", "b", "c", "d"}, {{"step", "+1.5 %", "−1.5 %", "within"}});
  const auto side = [&](int column) {
    return model.index(0, column).data(Qt::TextAlignmentRole).toInt() & Qt::AlignHorizontal_Mask;
  };
  for (const int column : {1, 2}) CHECK(side(column) == Qt::AlignRight);
  CHECK(side(3) != Qt::AlignRight);
}

TEST_CASE("a search file gives back the plans, and the same bytes when written again") {
  const QTemporaryDir folder;
  const QString first = folder.filePath("a.search"), second = folder.filePath("b.search");
  write_search(*small_plans(), first);
  const PlanSet back = read_search(first);
  CHECK(back.size() == small_plans()->size());
  CHECK(back.best == small_plans()->best);
  CHECK(back.intervals.size() == small_plans()->intervals.size());
  for (std::size_t c = 0; c < back.columns.size(); ++c) {
    CHECK(back.columns[c].values == small_plans()->columns[c].values);
  }
  CHECK(question_text(back.question) == question_text(small_plans()->question));
  write_search(back, second);
  QFile a(first), b(second);
  REQUIRE(a.open(QIODevice::ReadOnly));
  REQUIRE(b.open(QIODevice::ReadOnly));
  CHECK(a.readAll() == b.readAll());
}

TEST_CASE("damaged search files are refused or unchanged") {
  const QTemporaryDir folder;
  const QString file = folder.filePath("a.search");
  write_search(*small_plans(), file);
  QFile in(file);
  REQUIRE(in.open(QIODevice::ReadOnly));
  const QByteArray good = in.readAll();
  in.close();
  const unsigned seed = 3;
  INFO("seed ", seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 120; ++i) {
    QByteArray bad = good;
    if (i % 3 == 0) {
      bad.truncate(static_cast<qsizetype>(random() % static_cast<unsigned>(good.size())));
    } else {
      // The header in one round, the columns in the next.
      const auto header = good.indexOf('\n', 20);
      const auto begin = i % 3 == 1 ? 0 : header + 1;
      const auto end = i % 3 == 1 ? header : good.size();
      const auto at = begin + static_cast<qsizetype>(random() % static_cast<unsigned>(end - begin));
      bad[at] = static_cast<char>(bad[at] ^ (1 << (random() % 8)));
    }
    QFile out(file);
    REQUIRE(out.open(QIODevice::WriteOnly));
    out.write(bad);
    out.close();
    const std::string said = message_of([&] { (void)read_search(file); });
    // A flipped letter of a title or a note is still a file.
    if (i % 3 != 1) CHECK_MESSAGE(said.find("a.search") != std::string::npos, said);
  }
}

}  // namespace
}  // namespace imhotep::gui
