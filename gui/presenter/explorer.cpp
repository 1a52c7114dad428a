#include "gui/presenter/explorer.h"

#include <QFileInfo>

#include "core/base/error.h"
#include "gui/presenter/basics.h"
#include "gui/presenter/form.h"

namespace imhotep::gui {

// One edit: everything that was asked before and after it.
class EditCommand : public QUndoCommand {
 public:
  struct State {
    Question question;
    KnobValues knobs{};
  };
  EditCommand(Explorer& explorer, State before, State after, const QString& label, int merge_id)
      : QUndoCommand(label),
        explorer_(explorer),
        before_(std::move(before)),
        after_(std::move(after)),
        merge_id_(merge_id) {}
  void undo() override { explorer_.apply(before_.question, before_.knobs); }
  void redo() override { explorer_.apply(after_.question, after_.knobs); }
  [[nodiscard]] int id() const override { return merge_id_; }
  bool mergeWith(const QUndoCommand* other) override {
    if (other->id() != merge_id_) return false;
    after_ = static_cast<const EditCommand*>(other)->after_;
    return true;
  }

 private:
  Explorer& explorer_;
  State before_, after_;
  int merge_id_;
};

namespace {

// What a job brings back: a value, or why there is none.
template <class T>
struct Result {
  std::optional<T> value;
  QString error;
};

template <class Work>
auto guarded(Work work) -> Result<decltype(work())> {
  try {
    return {.value = work(), .error = {}};
  } catch (const std::exception& error) {
    return {.value = std::nullopt, .error = qt(error.what())};
  }
}

constexpr int kNoMerge = -1;

}  // namespace

Explorer::Explorer(QObject* parent)
    : QObject(parent),
      searching_(this),
      examining_(this),
      comparing_(this),
      asking_(this),
      sensing_(this),
      opening_(this) {
  constexpr int kSearchDelayMs = 120, kKnobDelayMs = 40;
  search_soon_.setSingleShot(true);
  search_soon_.setInterval(kSearchDelayMs);
  knobs_soon_.setSingleShot(true);
  knobs_soon_.setInterval(kKnobDelayMs);
  question_ = sample_question();  // what forms start from; not asked yet
  knobs_ = knobs_of(question_);
  connect(&search_soon_, &QTimer::timeout, this, &Explorer::search);
  connect(&knobs_soon_, &QTimer::timeout, this, &Explorer::answer_knobs);
  connect(&watcher_, &QFileSystemWatcher::fileChanged, this, [this](const QString& file) {
    // Files are replaced by renaming: wait for the new one.
    constexpr int kRenameMs = 200;
    QTimer::singleShot(kRenameMs, this, [this, file] {
      if (QFileInfo::exists(file)) open(file);
    });
  });
}

// Jobs hold this object by a plain pointer.
Explorer::~Explorer() {
  for (Newest* job : {&searching_, &examining_, &comparing_, &asking_, &sensing_, &opening_}) {
    job->cancel();
  }
  QThreadPool::globalInstance()->waitForDone();
}

void Explorer::edit(const QString& path, const QString& text) {
  Question changed = with_field(question_, path, text);
  if (has_question_ && question_text(changed) == question_text(question_)) return;
  (void)request_of(changed);
  ask(changed, "edit " + path.section('.', -1).replace('_', ' '));
}

void Explorer::ask(const Question& question, const QString& label) {
  const KnobValues knobs = knobs_of(question);
  if (!has_question_) {
    apply(question, knobs);
    return;
  }
  if (question_text(question) == question_text(question_)) return;
  history_.push(new EditCommand(*this, {question_, knobs_}, {question, knobs}, label, kNoMerge));
}

void Explorer::set_knob(Knob knob, double value) {
  KnobValues knobs = knobs_;
  knobs[static_cast<std::size_t>(knob)] = value;
  if (knobs == knobs_) return;
  history_.push(new EditCommand(*this, {question_, knobs_}, {question_, knobs},
                                "what if: " + knob_info(knob).label.toLower(),
                                100 + static_cast<int>(knob)));
}

void Explorer::reset_knobs() {
  const KnobValues own = knobs_of(question_);
  if (own == knobs_) return;
  history_.push(
      new EditCommand(*this, {question_, knobs_}, {question_, own}, "what if: reset", kNoMerge));
}

void Explorer::apply(const Question& question, const KnobValues& knobs) {
  const bool asked_anew = !has_question_ || question_text(question) != question_text(question_);
  const bool turned = knobs != knobs_;
  question_ = question;
  knobs_ = knobs;
  has_question_ = true;
  if (asked_anew) {
    sensitivity_.reset();
    outcome_.reset();
    Q_EMIT question_changed();
    search_soon_.start();
    update_busy();
  }
  if (asked_anew || turned) {
    Q_EMIT knobs_changed();
    knobs_soon_.start();
  }
}

// What was chosen before: an opened plan, or one that somebody picked; not the best one.
std::optional<Plan> Explorer::plan_to_keep() const {
  if (wanted_) return wanted_;
  const bool picked = detail_ && selected_ >= 0 && plans_ && selected_ != plans_->best;
  return picked ? std::optional(detail_->plan) : std::nullopt;
}

void Explorer::search() {
  progress_ = -1;
  searching_.start(
      [this, question = question_, keep = plan_to_keep()](const Stop& stop) {
        return guarded([&] {
          ExploreOptions options{.priced_only = true};
          options.progress = [this, stop](double fraction) {
            QMetaObject::invokeMethod(
                this,
                [this, stop, fraction] {
                  if (stop.requested()) return;
                  progress_ = fraction;
                  update_busy();
                },
                Qt::QueuedConnection);
          };
          Found found;
          found.plans = std::make_shared<const PlanSet>(
              explore(question, prices_of(question), stop, options));
          if (keep) found.kept = row_of(*found.plans, *keep);
          return found;
        });
      },
      [this](Result<Found> result) {
        update_busy();
        if (result.value) {
          accept(*result.value);
        } else {
          Q_EMIT told(result.error, true);
        }
      });
  update_busy();
}

void Explorer::accept(const Found& found) {
  plans_ = found.plans;
  if (plans_->best < 0) {
    Q_EMIT told("No plan fits the memory and keeps to the limits; the table shows what is missing.",
                true);
  } else if (!plans_->note.isEmpty()) {
    Q_EMIT told(plans_->note, false);
  }
  selected_ = found.kept >= 0 ? found.kept : plans_->best;
  outside_.reset();
  if (found.kept < 0 && wanted_) {
    outside_ = wanted_;
    selected_ = -1;
  }
  wanted_.reset();
  reference_ = plans_->best;
  reference_pinned_ = false;
  Q_EMIT plans_changed();
  Q_EMIT selection_changed();
  examine_selected();
  examine_reference();
}

void Explorer::select(std::int64_t row) {
  if (row == selected_ || !plans_ || row >= plans_->size()) return;
  outside_.reset();
  selected_ = row;
  Q_EMIT selection_changed();
  examine_selected();
}

void Explorer::set_reference(bool selected) {
  reference_pinned_ = selected;
  reference_ = selected ? selected_ : plans_ ? plans_->best : -1;
  examine_reference();
}

void Explorer::examine_selected() {
  if (!plans_ || (selected_ < 0 && !outside_)) {
    detail_.reset();
    Q_EMIT details_changed();
    return;
  }
  examining_.start(
      [plans = plans_, row = selected_, outside = outside_, reports = reports_](const Stop& stop) {
        return guarded([&] {
          const Prices prices = prices_of(plans->question);
          const Plan plan = outside ? *outside : plan_of(*plans, row, prices);
          const auto report = reports.find(plan_hash(plan));
          return examine(plan, prices,
                         report == reports.end() ? std::nullopt : std::optional(report->second),
                         stop);
        });
      },
      [this](Result<Detail> result) {
        update_busy();
        if (!result.value) {
          Q_EMIT told(result.error, true);
          return;
        }
        detail_ = std::make_shared<const Detail>(std::move(*result.value));
        if (!detail_->warning.isEmpty()) Q_EMIT told(detail_->warning, false);
        Q_EMIT details_changed();
      });
  update_busy();
}

void Explorer::examine_reference() {
  reference_detail_.reset();
  if (!plans_ || reference_ < 0) {
    Q_EMIT reference_changed();
    return;
  }
  comparing_.start(
      [plans = plans_, row = reference_](const Stop& stop) {
        return guarded([&] {
          const Prices prices = prices_of(plans->question);
          return examine(plan_of(*plans, row, prices), prices, std::nullopt, stop);
        });
      },
      [this](Result<Detail> result) {
        if (!result.value) return;
        reference_detail_ = std::make_shared<const Detail>(std::move(*result.value));
        Q_EMIT reference_changed();
      });
}

// A first answer of the best plans at once, the whole one when it is there.
void Explorer::answer_knobs() {
  asking_.start(
      [this, question = question_, knobs = knobs_, plans = plans_](const Stop& stop) {
        if (plans && question_text(plans->question) == question_text(question)) {
          if (const std::optional<Outcome> first = ask_quickly(*plans, knobs, stop)) {
            QMetaObject::invokeMethod(
                this,
                [this, stop, first] {
                  if (stop.requested()) return;
                  outcome_ = first;
                  Q_EMIT what_if_changed();
                },
                Qt::QueuedConnection);
          }
        }
        return gui::ask(question, knobs, stop);
      },
      [this](Outcome outcome) {
        outcome_ = std::move(outcome);
        Q_EMIT what_if_changed();
      });
}

void Explorer::find_sensitivities() {
  sensing_.start(
      [this, question = question_, knobs = knobs_](const Stop& stop) {
        return sensitivities(question, knobs, stop, [this, stop](double fraction) {
          QMetaObject::invokeMethod(
              this,
              [this, stop, fraction] {
                if (!stop.requested()) {
                  Q_EMIT busy_changed("asking what if", fraction);
                }
              },
              Qt::QueuedConnection);
        });
      },
      [this](Sensitivities found) {
        sensitivity_ = std::move(found);
        update_busy();
        Q_EMIT sensitivity_changed();
      });
  update_busy();
}

void Explorer::cancel() {
  const bool was_busy = is_busy();
  search_soon_.stop();
  searching_.cancel();
  examining_.cancel();
  sensing_.cancel();
  opening_.cancel();
  if (was_busy) Q_EMIT told("Stopped.", false);
  update_busy();
}

bool Explorer::is_busy() const {
  return search_soon_.isActive() || searching_.is_running() || examining_.is_running() ||
         sensing_.is_running() || opening_.is_running();
}

void Explorer::update_busy() {
  const QString text = search_soon_.isActive() || searching_.is_running() ? "looking at plans"
                       : opening_.is_running()                            ? "reading"
                       : sensing_.is_running()                            ? "asking what if"
                       : examining_.is_running()                          ? "taking the plan apart"
                                                                          : "";
  Q_EMIT busy_changed(text, searching_.is_running() ? progress_ : -1);
}

void Explorer::open(const QString& file) {
  opening_.start([file](const Stop&) { return guarded([&] { return open_any(file); }); },
                 [this, file](Result<Opened> result) {
                   update_busy();
                   if (result.value) {
                     open_now(*result.value, file);
                   } else {
                     Q_EMIT told(result.error, true);
                   }
                 });
  update_busy();
}

void Explorer::open_now(const Opened& opened, const QString& file) {
  const QString name = QFileInfo(file).fileName();
  const Question base = has_question_ ? question_ : sample_question();
  try {
    if (const auto* plan = std::get_if<Plan>(&opened)) {
      wanted_ = *plan;
      ask(question_of(*plan), "open " + name);
      search_soon_.start();  // the same question may have another plan
    } else if (const auto* report = std::get_if<RunReport>(&opened)) {
      reports_[plan_hash(report->plan)] = *report;
      wanted_ = report->plan;
      ask(question_of(report->plan), "open " + name);
      search_soon_.start();  // the same question may have a new report
    } else if (const auto* model = std::get_if<ModelSpec>(&opened)) {
      ask(default_question(*model, base.cluster, base.workload.kind), "open " + name);
    } else if (const auto* cluster = std::get_if<ClusterSpec>(&opened)) {
      ask(default_question(base.model, *cluster, base.workload.kind), "open " + name);
    } else if (const auto* work = std::get_if<Workload>(&opened)) {
      Question changed = base;
      changed.workload = *work;
      ask(changed, "open " + name);
    } else if (const auto* profile = std::get_if<ProfileFile>(&opened)) {
      Question changed = base;
      changed.goal.profile = plain(profile->file);
      ask(changed, "open " + name);
    } else if (const auto* plans = std::get_if<Plans>(&opened)) {
      question_ = (*plans)->question;
      knobs_ = knobs_of(question_);
      has_question_ = true;
      history_.clear();
      sensitivity_.reset();
      outcome_.reset();
      Q_EMIT question_changed();
      Q_EMIT knobs_changed();
      knobs_soon_.start();
      wanted_.reset();
      accept({*plans, -1});
    } else if (const auto* session = std::get_if<Session>(&opened)) {
      ask(session->question, "open " + name);
      if (session->knobs.size() == kKnobs) {
        KnobValues knobs{};
        std::copy(session->knobs.begin(), session->knobs.end(), knobs.begin());
        apply(question_, knobs);
      }
      Q_EMIT session_opened(*session);
    }
  } catch (const Error& error) {
    Q_EMIT told(qt(error.what()), true);
    return;
  }
  remember(file);
}

void Explorer::remember(const QString& file) {
  constexpr int kMostRecent = 12;
  if (!watcher_.files().contains(file)) watcher_.addPath(file);
  recent_.removeAll(file);
  recent_.prepend(file);
  while (recent_.size() > kMostRecent) recent_.removeLast();
  Q_EMIT files_changed();
}

}  // namespace imhotep::gui
