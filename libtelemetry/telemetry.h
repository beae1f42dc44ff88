/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* Everything a program needs to send telemetry to collectord. See docs/library.md for a whole example. */
#include "libtelemetry/client.h"
