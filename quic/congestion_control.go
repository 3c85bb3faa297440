// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"fmt"

	"github.com/mqvpn/mqvpn/quic/internal/congestion"
)

// CongestionControl chooses the congestion controller of each path of a connection.
type CongestionControl uint8

const (
	CUBIC   CongestionControl = iota // RFC 9438 with HyStart++ (RFC 9406)
	NewReno                          // RFC 9002 section 7
	BBR                              // draft-ietf-ccwg-bbr: version 3
	numCongestionControls
)

var congestionControlNames = [numCongestionControls]string{"cubic", "reno", "bbr"}

func (c CongestionControl) String() string { return congestionControlNames[c] }

// ParseCongestionControl returns what the name stands for: "cubic", "bbr" or "reno".
func ParseCongestionControl(name string) (CongestionControl, error) {
	for c, n := range congestionControlNames {
		if n == name {
			return CongestionControl(c), nil
		}
	}
	return 0, fmt.Errorf("congestion control %q is unknown: want cubic, bbr or reno", name)
}

// newController makes the controller of a path with packets of at most maxDatagram
// bytes of UDP payload.
func (c CongestionControl) newController(maxDatagram int) congestion.Controller {
	switch c {
	case NewReno:
		return congestion.NewNewReno(maxDatagram)
	case BBR:
		return congestion.NewBBR(maxDatagram)
	}
	return congestion.NewCubic(maxDatagram)
}
