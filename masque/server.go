// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"errors"
	"strings"

	"github.com/mqvpn/mqvpn/http3"
)

// Server decides about requests for tunnels.
type Server struct {
	// Authorize decides about a well-formed request with its bearer token, "" if it
	// has none. It is the last check: a nil error is followed by the answer 200. An
	// error of type *RefusedError is answered with its Status; any other makes Site
	// answer, as if there were no tunnels here. // R9484-11-2
	Authorize func(req *http3.Request, token string) error
	// Site answers all that is not an authorized request for a tunnel. nil: http3.NotFound.
	Site func(*http3.Request, *http3.RequestStream)
}

// Accept answers a request. If it is one for a tunnel and authorized, the answer is
// 200 and the tunnel is returned; its addresses and routes are the caller's to
// tell. Otherwise the request is answered in full and an error returned. Accept is
// called in http3.Server's Handler, which must not return before the session is done.
func (s *Server) Accept(req *http3.Request, st *http3.RequestStream) (*Session, error) {
	if req.Method != "CONNECT" || req.Protocol != protocol || !isTunnelPath(req.Path) {
		s.site(req, st)
		return nil, ErrNotTunnel
	}
	if err := http3.CheckCapsuleMessage(req.Header, 0); err != nil {
		st.Cancel(http3.ErrMessage)
		return nil, err
	}
	scope, err := parseScope(req.Path)
	if err != nil || req.Scheme != "https" { // R9484-4.4-2
		return nil, refuse(st, &RefusedError{Status: 400}, errScope)
	}
	if !scope.unlimited() {
		err := &RefusedError{Status: 501} // tunnels for one target are not offered
		return nil, refuse(st, err, err)
	}
	if err := s.Authorize(req, bearerToken(req.Header)); err != nil {
		if e, ok := errors.AsType[*RefusedError](err); ok && e.Status != 0 {
			return nil, refuse(st, e, err)
		}
		s.site(req, st)
		return nil, err
	}
	err = st.WriteResponse(&http3.Response{Status: 200, Header: http3.Header{http3.CapsuleProtocol}}) // R9484-4.5-1
	if err != nil {
		return nil, err
	}
	return newSession(st, false), nil
}

func (s *Server) site(req *http3.Request, st *http3.RequestStream) {
	if s.Site != nil {
		s.Site(req, st)
	} else {
		http3.NotFound(req, st)
	}
}

func refuse(st *http3.RequestStream, e *RefusedError, reason error) error {
	st.Respond(e.Status, "text/plain", []byte(e.Error()+"\n"))
	return reason
}

// bearerToken returns the credentials of the scheme Bearer (RFC 6750), whose name
// has no case.
func bearerToken(h http3.Header) string {
	scheme, token, _ := strings.Cut(h.Get("authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimLeft(token, " ")
}
