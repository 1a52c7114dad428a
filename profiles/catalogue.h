#pragma once
// The shipped models and clusters, found by name or read from a file of one's own.
//
// The data folder holds models/*.json, clusters/*.json and measured/*.json. It is $IMHOTEP_DATA,
// else <folder of the executable>/../share/imhotep, else the source folder of this build.

#include <string>
#include <vector>

#include "core/spec/cluster.h"
#include "core/spec/model.h"

namespace imhotep::profiles {

// Throws: Error(Missing) where no data folder exists, Error(Input) where $IMHOTEP_DATA is not one.
[[nodiscard]] std::string data_directory();

// All shipped models, smallest first. Throws: as data_directory, and Error(Input) on a broken file.
[[nodiscard]] std::vector<ModelSpec> models();
// All shipped clusters by name, then "local", which is detected.
[[nodiscard]] std::vector<ClusterSpec> clusters();

[[nodiscard]] std::vector<std::string> model_names();
[[nodiscard]] std::vector<std::string> cluster_names();

// `name` is a catalogue name or the path of a .json file (it ends in .json or has a slash).
// Throws: Error(Input); for an unknown name with the nearest known one.
[[nodiscard]] ModelSpec find_model(const std::string& name);
[[nodiscard]] ClusterSpec find_cluster(const std::string& name);

}  // namespace imhotep::profiles
