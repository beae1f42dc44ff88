# SPDX-License-Identifier: Apache-2.0
"""What the integration tests stand on: the daemon under test, the receivers it talks to, and independent readers of its formats."""
