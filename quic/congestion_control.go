// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"fmt"

	"github.com/mqvpn/mqvpn/quic/internal/congestion"
)

// CongestionControl chooses the congestion controller of each path of a connection.
type CongestionControl uint8

const (
	BBR     CongestionControl = iota // draft-ietf-ccwg-bbr: version 3, with a shorter queue
	CUBIC                            // RFC 9438 with HyStart++ (RFC 9406)
	NewReno                          // RFC 9002 section 7
	numCongestionControls
)

var congestionControlNames = [numCongestionControls]string{"bbr", "cubic", "reno"}

func (c CongestionControl) String() string { return congestionControlNames[c] }

// ParseCongestionControl returns what the name stands for: "bbr", "cubic" or "reno".
func ParseCongestionControl(name string) (CongestionControl, error) {
	for c, n := range congestionControlNames {
		if n == name {
			return CongestionControl(c), nil
		}
	}
	return 0, fmt.Errorf("congestion control %q is unknown: want bbr, cubic or reno", name)
}

// newController makes the controller of a path with packets of at most maxDatagram
// bytes of UDP payload.
func (c CongestionControl) newController(maxDatagram int) congestion.Controller {
	switch c {
	case CUBIC:
		return congestion.NewCubic(maxDatagram)
	case NewReno:
		return congestion.NewNewReno(maxDatagram)
	}
	return congestion.NewBBR(maxDatagram)
}
