#pragma once
// The window: the question at the left, one page for each way to look at plans, what is going on
// below. All actions live in one list that menus, shortcuts and the command palette share.

#include <QDockWidget>
#include <QLabel>
#include <QMainWindow>
#include <QProgressBar>
#include <QPushButton>
#include <QTabWidget>
#include <vector>

#include "gui/presenter/child.h"
#include "gui/presenter/explorer.h"
#include "gui/presenter/session.h"
#include "gui/views/ask_panel.h"
#include "gui/views/compare_page.h"
#include "gui/views/detail_pages.h"
#include "gui/views/explore_page.h"
#include "gui/views/run_page.h"
#include "gui/views/what_if_page.h"

namespace imhotep::gui {

inline constexpr struct {
  const char *name, *title;
} kPages[] = {{"explore", "&1 Plans"},
              {"breakdown", "&2 Breakdown"},
              {"timeline", "&3 Timeline"},
              {"placement", "&4 Placement"},
              {"whatif", "&5 What if"},
              {"compare", "&6 Compare"},
              {"run", "&7 Run"}};

class MainWindow : public QMainWindow {
  Q_OBJECT
 public:
  explicit MainWindow(QWidget* parent = nullptr);

  [[nodiscard]] Explorer& explorer() { return explorer_; }
  [[nodiscard]] ExplorePage& explore() { return *explore_; }
  [[nodiscard]] BreakdownPage& breakdown() { return *breakdown_; }
  [[nodiscard]] TimelinePage& timeline() { return *timeline_; }
  [[nodiscard]] PlacementPage& placement() { return *placement_; }
  [[nodiscard]] WhatIfPage& what_if() { return *what_if_; }
  [[nodiscard]] ComparePage& compare() { return *compare_; }
  [[nodiscard]] RunPage& run() { return *run_; }
  [[nodiscard]] AskPanel& ask() { return *ask_; }
  // "explore", "breakdown", "timeline", "placement", "whatif", "compare", "run".
  void show_page(const QString& name);
  [[nodiscard]] QWidget* page(const QString& name);
  [[nodiscard]] static QStringList page_names();

  [[nodiscard]] const std::vector<QAction*>& all_actions() const { return actions_; }
  [[nodiscard]] Session session() const;
  void apply_session(const Session& session);
  void set_theme(const QString& name);
  void set_font_scale(double scale);
  // Reads and writes nothing of the user's settings: for pictures and tests.
  void stay_private() { private_ = true; }
  void restore_settings();

 protected:
  void dragEnterEvent(QDragEnterEvent* event) override;
  void dropEvent(QDropEvent* event) override;
  void closeEvent(QCloseEvent* event) override;
  void resizeEvent(QResizeEvent* event) override;
  void changeEvent(QEvent* event) override;

 private:
  void build_pages();
  [[nodiscard]] QWidget* build_heading();  // of the question
  void build_summary(QVBoxLayout& layout);
  void build_welcome();
  void build_status();
  void build_file_menu();
  void build_edit_menu();
  void build_view_menu();
  void build_plan_menu();
  void build_help_menu();
  QAction* add(QMenu& menu, const QString& text, const QKeySequence& keys,
               const std::function<void()>& act);
  void fit_question();
  void show_question(bool shown);
  void refresh_summary();
  void refresh_recent();
  void tell(const QString& message, bool problem);
  void open_dialog();
  void save_plan();
  void save_search();
  void save_deployment();
  void save_session();
  void export_page();
  void repeat_command();
  void toggle_table();
  void next_pane();

  Explorer explorer_;
  Child deployment_;  // imhotep export
  QTabWidget* tabs_ = nullptr;
  QStackedWidget* stack_ = nullptr;
  QWidget* welcome_ = nullptr;
  AskPanel* ask_ = nullptr;
  QDockWidget* question_ = nullptr;       // holds ask_
  bool narrow_ = false, folded_ = false;  // folded_: hidden because the window became narrow
  ExplorePage* explore_ = nullptr;
  BreakdownPage* breakdown_ = nullptr;
  TimelinePage* timeline_ = nullptr;
  PlacementPage* placement_ = nullptr;
  WhatIfPage* what_if_ = nullptr;
  ComparePage* compare_ = nullptr;
  RunPage* run_ = nullptr;
  QLabel *summary_ = nullptr, *figures_ = nullptr, *busy_ = nullptr, *message_ = nullptr;
  QProgressBar* progress_ = nullptr;
  QPushButton* cancel_ = nullptr;
  QMenu* recent_ = nullptr;
  std::vector<QAction*> actions_;
  double font_scale_ = 1;
  bool private_ = false;
};

// Starting it adds nothing else to the program: the palette of all actions, and their sheet.
void show_palette(QWidget& window, const std::vector<QAction*>& actions);
void show_shortcuts(QWidget& window, const std::vector<QAction*>& actions);

}  // namespace imhotep::gui
