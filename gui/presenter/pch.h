#pragma once
// Precompiled: what nearly every file of the window includes.

#include <QtCore/QtCore>
#include <QtGui/QtGui>
#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>
