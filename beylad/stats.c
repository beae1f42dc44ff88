/* SPDX-License-Identifier: Apache-2.0 */
#include "beylad/stats.h"

struct stats stats;
