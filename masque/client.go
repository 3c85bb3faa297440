// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"context"
	"errors"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/quic"
)

// protocol is the upgrade token of IP proxying.
const protocol = "connect-ip"

// Request says what tunnel a client asks for.
type Request struct {
	Authority string       // host:port of the proxy, for the default template
	Template  *Template    // nil: the default template
	Token     string       // bearer token, empty for none
	Header    http3.Header // further fields
}

// httpRequest is the request for a tunnel without limits. // R9484-4.4-1 R9484-3-2
func (r *Request) httpRequest() (*http3.Request, error) {
	t := r.Template
	if t == nil {
		var err error
		if t, err = DefaultTemplate(r.Authority); err != nil {
			return nil, err
		}
	}
	h := http3.Header{http3.CapsuleProtocol}
	if r.Token != "" {
		h = append(h, http3.Field{Name: "authorization", Value: "Bearer " + r.Token})
	}
	return &http3.Request{
		Method:    "CONNECT",
		Protocol:  protocol,
		Scheme:    "https",
		Authority: t.authority,
		Path:      t.expand(wildcard, wildcard),
		Header:    append(h, r.Header...),
	}, nil
}

// Dial opens a tunnel. The error is a *RefusedError when the peer refuses it, by a
// response, a reset or the end of the connection. The response is there if one came.
func Dial(ctx context.Context, h *http3.ClientConn, r Request) (*Session, *http3.Response, error) {
	req, err := r.httpRequest()
	if err != nil {
		return nil, nil, err
	}
	settings, err := h.ReceivedSettings(ctx)
	if err != nil {
		return nil, nil, refusal(err)
	}
	if !settings.Datagrams || h.Conn().PeerMaxDatagramFrame() == 0 {
		return nil, nil, ErrNoDatagrams
	}
	resp, stream, err := h.Do(ctx, req)
	if err != nil {
		return nil, nil, refusal(err)
	}
	if resp.Status < 200 || resp.Status > 299 {
		stream.Cancel(http3.ErrRequestCancelled) // R9484-4.1-5
		return nil, resp, &RefusedError{Status: resp.Status}
	}
	if err := http3.CheckCapsuleMessage(resp.Header, resp.Status); err != nil {
		stream.Cancel(http3.ErrMessage) // R9484-4.5-2
		return nil, resp, err
	}
	return newSession(stream, true), resp, nil
}

// refusal turns the error by which a peer ends the request into a *RefusedError.
func refusal(err error) error {
	if e, ok := errors.AsType[*quic.ApplicationError](err); ok && e.Remote {
		return &RefusedError{Code: http3.ErrorCode(e.Code)}
	}
	if e, ok := errors.AsType[*quic.StreamError](err); ok && e.Remote {
		return &RefusedError{Code: http3.ErrorCode(e.Code)}
	}
	return err
}
