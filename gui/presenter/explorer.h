#pragma once
// The state behind the window: one question, its plans, one selection shared by all views. Every
// edit is a command that can be undone; every answer is computed beside the window.

#include <QFileSystemWatcher>
#include <QObject>
#include <QTimer>
#include <QUndoStack>
#include <map>

#include "gui/presenter/open_file.h"
#include "gui/presenter/planning.h"
#include "gui/presenter/what_if.h"

namespace imhotep::gui {

class Explorer : public QObject {
  Q_OBJECT
 public:
  explicit Explorer(QObject* parent = nullptr);
  ~Explorer() override;

  // Edits. Throws: Error(Input) when the text is no value of the field; nothing changes then.
  void edit(const QString& path, const QString& text);
  void ask(const Question& question, const QString& label);  // undoable
  void set_knob(Knob knob, double value);                    // undoable, steps of one knob merge
  void reset_knobs();
  [[nodiscard]] QUndoStack& history() { return history_; }

  // Reads and applies any file; tells when it is broken and keeps what there was.
  void open(const QString& file);
  void open_now(const Opened& opened, const QString& file);

  void select(std::int64_t row);      // of plans(); -1: none
  void set_reference(bool selected);  // the selected plan, or the best one again
  void cancel();

  // A plan that was opened but is no row: its layers differ in what the columns hold once.
  [[nodiscard]] const std::optional<Plan>& outside() const { return outside_; }
  [[nodiscard]] bool has_question() const { return has_question_; }
  [[nodiscard]] const Question& question() const { return question_; }
  [[nodiscard]] const Plans& plans() const { return plans_; }
  [[nodiscard]] std::int64_t selected() const { return selected_; }
  [[nodiscard]] std::int64_t reference_row() const { return reference_; }
  [[nodiscard]] const Details& detail() const { return detail_; }  // of the selected plan
  [[nodiscard]] const Details& reference() const { return reference_detail_; }
  [[nodiscard]] const KnobValues& knobs() const { return knobs_; }
  [[nodiscard]] const std::optional<Outcome>& what_if() const { return outcome_; }
  [[nodiscard]] const std::optional<Sensitivities>& sensitivity() const { return sensitivity_; }
  [[nodiscard]] bool is_busy() const;
  [[nodiscard]] const QStringList& recent_files() const { return recent_; }
  void set_recent_files(const QStringList& files) { recent_ = files; }
  // Started on demand: it asks dozens of questions.
  void find_sensitivities();

 Q_SIGNALS:
  void question_changed();
  void plans_changed();
  void selection_changed();
  void details_changed();
  void reference_changed();
  void knobs_changed();
  void what_if_changed();
  void sensitivity_changed();
  void files_changed();
  void busy_changed(const QString& text, double fraction);  // "": idle; below 0: unknown
  void told(const QString& message, bool problem);
  void session_opened(const Session& session);

 private:
  friend class EditCommand;
  void apply(const Question& question, const KnobValues& knobs);
  void search();
  struct Found {
    Plans plans;
    std::int64_t kept = -1;  // row of the plan that was chosen before; -1: it is none
  };
  [[nodiscard]] std::optional<Plan> plan_to_keep() const;
  void accept(const Found& found);
  void examine_selected();
  void examine_reference();
  void answer_knobs();
  void remember(const QString& file);
  void update_busy();

  Question question_;
  bool has_question_ = false;
  KnobValues knobs_{};
  Plans plans_;
  std::int64_t selected_ = -1, reference_ = -1;
  bool reference_pinned_ = false;
  std::optional<Plan> outside_;
  std::optional<Plan> wanted_;                // to select once its plans are there
  std::map<std::string, RunReport> reports_;  // by plan hash
  Details detail_, reference_detail_;
  std::optional<Outcome> outcome_;
  std::optional<Sensitivities> sensitivity_;
  QUndoStack history_;
  QTimer search_soon_, knobs_soon_;
  QFileSystemWatcher watcher_;
  QStringList recent_;
  Newest searching_, examining_, comparing_, asking_, sensing_, opening_;
  double progress_ = -1;
};

}  // namespace imhotep::gui
