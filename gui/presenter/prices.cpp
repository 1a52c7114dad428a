// Which prices a question has. Profiles are read, and their tables built, once: a slider asks ten
// times a second, and what a kernel takes does not change when a link becomes faster.

#include <filesystem>
#include <list>
#include <mutex>

#include "core/base/fail.h"
#include "core/base/json_fields.h"
#include "gui/presenter/basics.h"
#include "gui/presenter/planning.h"

namespace imhotep::gui {
namespace {

namespace fs = std::filesystem;

bool is_file(const std::string& name) {
  return name.ends_with(".json") || name.find('/') != std::string::npos;
}

// What is found depends on these and on nothing else.
std::string key_of(const Question& question) {
  std::string key = question.goal.profile + '\n' + question.cluster.name + '\n' +
                    document_of(question.cluster.device, "device").dump();
  std::vector<std::string> files = profiles::profile_files();
  if (is_file(question.goal.profile)) files.push_back(question.goal.profile);
  for (const std::string& file : files) {
    std::error_code error;
    const auto time = fs::last_write_time(file, error).time_since_epoch().count();
    key +=
        '\n' + file + ' ' + std::to_string(time) + ' ' + std::to_string(fs::file_size(file, error));
  }
  return key;
}

QString text_of(const std::optional<profiles::Profile>& profile, const DeviceSpec& device) {
  if (!profile) return QString("roofline: no profile of %1").arg(qt(device.name));
  QString text =
      QString("profile %1 of %2").arg(qt(profile->name), qt(profile->date.substr(0, 10)));
  if (profile->device.name != device.name) {
    text += QString(", transferred from %1").arg(qt(profile->device.name));
  }
  if (!profile->kernels.empty()) {
    text += QString(", transferred from %1").arg(qt(profile->kernels));
  }
  return text;
}

class PriceBook {
 public:
  Prices find(const Question& question) {
    const std::string key = key_of(question);
    const std::scoped_lock lock(mutex_);
    Page& page = page_of(key, question);
    return {.cluster = question.cluster,
            .simulator =
                std::make_shared<const simulator::Simulator>(page.simulator.on(question.cluster)),
            .key = key,
            .text = page.text,
            .warning = {}};
  }

  void remember(const Prices& prices, const simulator::Simulator& simulator) {
    const std::scoped_lock lock(mutex_);
    for (Page& page : pages_) {
      if (page.key == prices.key) page.simulator.learn(simulator);
    }
  }

 private:
  struct Page {
    std::string key;
    QString text;
    simulator::Simulator simulator;
  };

  Page& page_of(const std::string& key, const Question& question) {
    constexpr std::size_t kMostPages = 4;
    for (auto page = pages_.begin(); page != pages_.end(); ++page) {
      if (page->key != key) continue;
      pages_.splice(pages_.begin(), pages_, page);
      return pages_.front();
    }
    const std::optional<profiles::Profile> profile = profile_of(question);
    pages_.push_front({.key = key,
                       .text = text_of(profile, question.cluster.device),
                       .simulator = simulator::Simulator(question.cluster, profile)});
    if (pages_.size() > kMostPages) pages_.pop_back();
    return pages_.front();
  }

  std::mutex mutex_;
  std::list<Page> pages_;  // used last first
};

PriceBook& price_book() {
  static PriceBook book;
  return book;
}

}  // namespace

std::optional<profiles::Profile> profile_of(const Question& question) {
  const std::string& name = question.goal.profile;
  if (name.empty()) return profiles::find_profile(question.cluster);
  if (is_file(name)) return profiles::read_profile(name);
  if (name == "none") return std::nullopt;
  std::optional<profiles::Profile> profile = profiles::find_profile(name);
  if (!profile) fail_missing("no profile is called \"{}\"", name);
  return profile;
}

Prices prices_of(const Question& question) { return price_book().find(question); }

void remember(const Prices& prices, const simulator::Simulator& simulator) {
  price_book().remember(prices, simulator);
}

}  // namespace imhotep::gui
