// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"io"
	"testing"
)

func get(path string) *Request {
	return &Request{Method: "GET", Scheme: "https", Authority: "server.test", Path: path}
}

func TestGet(t *testing.T) {
	withHTTP(t, nil, func(t *testing.T, c *ClientConn, _ *Server) {
		resp, s, err := c.Do(t.Context(), get("/"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(s)
		if err != nil || string(body) != notFoundPage || resp.Status != 404 {
			t.Errorf("status %d, %q, %v", resp.Status, body, err)
		}
		s.Close()
	})
}
