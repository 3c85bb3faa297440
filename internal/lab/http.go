// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"net/http"
	"os"
	"path/filepath"
)

// ServeHTTP serves HTTP on a host at an address until stop is called.
func (h *Host) ServeHTTP(address string, handler http.Handler) (stop func() error, err error) {
	l, err := h.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	s := &http.Server{Handler: handler}
	go s.Serve(l)
	return s.Close, nil
}

// HTTPClient returns a client that connects from the host. Its connections are not
// kept for another request.
func (h *Host) HTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}}
}

// WriteFile writes a file as the host sees it: below /run that is the host's own.
func (h *Host) WriteFile(name string, data []byte, mode os.FileMode) error {
	return h.Do(func() error {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		return os.WriteFile(name, data, mode)
	})
}
