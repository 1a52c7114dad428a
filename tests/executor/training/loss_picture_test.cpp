#include "executor/train/loss_picture.h"

#include <doctest/doctest.h>

#include <boost/property_tree/xml_parser.hpp>
#include <cmath>
#include <sstream>

namespace imhotep::executor {
namespace {

using Xml = boost::property_tree::ptree;

Xml parsed(const std::string& svg) {
  std::istringstream stream(svg);
  Xml document;
  boost::property_tree::read_xml(stream, document);  // throws unless it is well-formed
  return document.get_child("svg");
}

struct Picture {
  std::string title;
  std::vector<std::pair<double, double>> curve;  // pixels
  std::vector<std::pair<double, double>> circles;
  int gridlines = 0;
};

Picture picture_of(const std::string& svg) {
  Picture picture;
  for (const auto& [name, node] : parsed(svg)) {
    if (name == "text" && picture.title.empty()) picture.title = node.data();
    if (name == "line") ++picture.gridlines;
    if (name == "circle") {
      picture.circles.emplace_back(node.get<double>("<xmlattr>.cx"),
                                   node.get<double>("<xmlattr>.cy"));
    }
    if (name != "path") continue;
    std::istringstream path(node.get<std::string>("<xmlattr>.d"));
    char letter = 0;
    double x = 0, y = 0;
    while (path >> letter >> x >> y) {
      CHECK(letter == (picture.curve.empty() ? 'M' : 'L'));
      picture.curve.emplace_back(x, y);
    }
    CHECK(path.eof());
  }
  return picture;
}

}  // namespace

TEST_CASE("the loss picture is well-formed XML with a point for every loss") {
  std::vector<LossPoint> training, held_out;
  for (int step = 1; step <= 300; ++step) {
    training.push_back({static_cast<double>(step), 8 / std::sqrt(step) + 0.1 * (step % 7)});
    if (step % 100 == 0) held_out.push_back({static_cast<double>(step), 9 / std::sqrt(step)});
  }
  const Picture picture = picture_of(loss_picture("tiny <a> & \"b\"", training, held_out));
  CHECK(picture.title == "tiny <a> & \"b\"");
  REQUIRE(picture.curve.size() == 300);
  REQUIRE(picture.circles.size() == 3);
  CHECK(picture.gridlines >= 4);
  for (std::size_t i = 1; i < 300; ++i) CHECK(picture.curve[i].first > picture.curve[i - 1].first);
  for (const auto* points : {&picture.curve, &picture.circles}) {
    for (const auto& [x, y] : *points) {
      CHECK(x >= 0);
      CHECK(x <= 720);
      CHECK(y >= 0);
      CHECK(y <= 420);
    }
  }
  CHECK(picture.curve[0].second < picture.curve[290].second);  // high losses are drawn high
  CHECK(picture.circles[0].first == picture.curve[99].first);
}

TEST_CASE("a loss picture can be drawn of anything") {
  CHECK(picture_of(loss_picture("none", {}, {})).curve.empty());
  CHECK(picture_of(loss_picture("one", {{1, 2.5}}, {})).curve.size() == 1);
  CHECK(picture_of(loss_picture("flat", {{1, 2.5}, {2, 2.5}}, {{2, 2.5}})).curve.size() == 2);
  CHECK(picture_of(loss_picture("only held out", {}, {{1, 3}, {2, 1}})).circles.size() == 2);
  CHECK(picture_of(loss_picture("huge", {{1, 1e20}, {2, 3}}, {})).curve.size() == 2);
  CHECK(picture_of(loss_picture("large and flat", {{1, 1e20}}, {})).curve.size() == 1);
  CHECK(picture_of(loss_picture("almost flat", {{1, 2.5}, {2, std::nextafter(2.5, 3)}}, {}))
            .curve.size() == 2);
  CHECK(picture_of(loss_picture("zero", {{1, 0}, {2, 0}}, {})).curve.size() == 2);
  CHECK(picture_of(loss_picture("long", {{1e9, 2}, {2e9, 3}}, {})).curve.size() == 2);
}

}  // namespace imhotep::executor
