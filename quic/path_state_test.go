// SPDX-License-Identifier: Apache-2.0

package quic

import "testing"

// TestPathPhases is the whole life cycle: each phase with each event.
func TestPathPhases(t *testing.T) {
	events := [numPathEvents]string{
		evValidated: "validated", evAcked: "acked", evSuspicion: "suspicion", evProbeTimeout: "probe time-out",
		evAbandonSent: "abandon sent", evAbandonRecv: "abandon received", evDrained: "drained", evAddressChange: "address change", evLinkDown: "link down",
	}
	type row [numPathEvents]pathPhase
	for phase, want := range map[pathPhase]row{
		pathProbing: {
			evValidated: pathActive, evAcked: pathProbing, evSuspicion: pathProbing, evProbeTimeout: pathProbing,
			evAbandonSent: pathAbandoning, evAbandonRecv: pathDraining, evDrained: pathProbing, evAddressChange: pathProbing, evLinkDown: pathProbing,
		},
		pathActive: {
			evValidated: pathActive, evAcked: pathActive, evSuspicion: pathSuspect, evProbeTimeout: pathDead,
			evAbandonSent: pathAbandoning, evAbandonRecv: pathDraining, evDrained: pathActive, evAddressChange: pathActive, evLinkDown: pathDead,
		},
		pathSuspect: {
			evValidated: pathSuspect, evAcked: pathActive, evSuspicion: pathSuspect, evProbeTimeout: pathDead,
			evAbandonSent: pathAbandoning, evAbandonRecv: pathDraining, evDrained: pathSuspect, evAddressChange: pathActive, evLinkDown: pathDead,
		},
		pathDead: {
			evValidated: pathDead, evAcked: pathActive, evSuspicion: pathDead, evProbeTimeout: pathDead,
			evAbandonSent: pathAbandoning, evAbandonRecv: pathDraining, evDrained: pathDead, evAddressChange: pathActive, evLinkDown: pathDead,
		},
		pathAbandoning: {
			evValidated: pathAbandoning, evAcked: pathAbandoning, evSuspicion: pathAbandoning, evProbeTimeout: pathAbandoning,
			evAbandonSent: pathAbandoning, evAbandonRecv: pathDraining, evDrained: pathGone, evAddressChange: pathAbandoning, evLinkDown: pathAbandoning,
		},
		pathDraining: {
			evValidated: pathDraining, evAcked: pathDraining, evSuspicion: pathDraining, evProbeTimeout: pathDraining,
			evAbandonSent: pathDraining, evAbandonRecv: pathDraining, evDrained: pathGone, evAddressChange: pathDraining, evLinkDown: pathDraining,
		},
		pathGone: {
			evValidated: pathGone, evAcked: pathGone, evSuspicion: pathGone, evProbeTimeout: pathGone,
			evAbandonSent: pathGone, evAbandonRecv: pathGone, evDrained: pathGone, evAddressChange: pathGone, evLinkDown: pathGone,
		},
	} {
		for e, next := range want {
			if got := nextPhase(phase, pathEvent(e)); got != next {
				t.Errorf("%v, %s: %v, want %v", phase, events[e], got, next)
			}
		}
	}
}

// TestPathPhasesOnlyEnd: an abandoned path never comes back. RMP21-3.4-7
func TestPathPhasesOnlyEnd(t *testing.T) {
	for p := pathAbandoning; p <= pathGone; p++ {
		for e := range numPathEvents {
			if next := nextPhase(p, e); next < p {
				t.Errorf("%v after %v", next, p)
			}
		}
	}
}
