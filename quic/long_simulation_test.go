// SPDX-License-Identifier: Apache-2.0

package quic

import "testing"

// longSimulation begins a test that measures the traffic of a fast link or of minutes. The
// race detector would make it last ten times as long, and find nothing there that it does
// not find in the shorter ones; CI runs it without. It has to be the first statement, as CI
// searches for it.
func longSimulation(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("a long simulation, which runs without the race detector")
	}
}
