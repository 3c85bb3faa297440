// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"errors"
	"fmt"

	"github.com/mqvpn/mqvpn/http3"
)

// RefusedError: the peer refused the tunnel.
type RefusedError struct {
	// Status is that of the response, 0 when there was none.
	Status int
	// Code is that of the reset or the connection close that came instead.
	Code http3.ErrorCode
}

func (e *RefusedError) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("masque: tunnel refused with status %d", e.Status)
	}
	return "masque: tunnel refused with " + e.Code.String()
}

var (
	// ErrNotTunnel: the request is no CONNECT-IP request. Server.Site has answered it.
	ErrNotTunnel = errors.New("masque: not a CONNECT-IP request")
	// ErrNoDatagrams: the peer does not take HTTP Datagrams.
	ErrNoDatagrams = errors.New("masque: the peer does not support HTTP Datagrams")
	// ErrClosed: the session was closed by Close.
	ErrClosed = errors.New("masque: session closed")
)
