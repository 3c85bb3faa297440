// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func connectIPFields() []Field {
	return []Field{
		{":method", "CONNECT"}, {":scheme", "https"}, {":authority", "vpn.example:443"},
		{":path", "/.well-known/masque/ip/*/*/"}, {":protocol", "connect-ip"},
		{"capsule-protocol", "?1"}, {"authorization", "Bearer secret"},
	}
}

func isMalformed(err error) bool {
	e, ok := errors.AsType[*StreamError](err)
	return ok && e.Code == ErrMessage // R9114-4.1.2-1
}

func TestParseRequest(t *testing.T) {
	r, err := parseRequest(connectIPFields())
	if err != nil {
		t.Fatal(err)
	}
	if !r.isExtendedConnect() || r.Authority != "vpn.example:443" || r.Header.Get("authorization") != "Bearer secret" {
		t.Errorf("request is %+v", r)
	}
	fields, err := r.fields()
	if err != nil || !slices.Equal(fields, connectIPFields()) {
		t.Errorf("fields are %q, %v", fields, err)
	}
	r, err = parseRequest([]Field{{":method", "GET"}, {":scheme", "https"}, {":path", "/x?y"}, {"host", "a"}})
	if err != nil || r.Authority != "a" {
		t.Errorf("request with host is %+v, %v", r, err)
	}
}

// edit returns a copy of fields with those called name replaced by with.
func edit(fields []Field, name string, with ...Field) (out []Field) {
	for _, f := range fields {
		if f.Name == name {
			out = append(out, with...)
			with = nil
		} else {
			out = append(out, f)
		}
	}
	return append(out, with...)
}

func TestRequestValidation(t *testing.T) {
	get := []Field{{":method", "GET"}, {":scheme", "https"}, {":authority", "a"}, {":path", "/"}}
	connect := []Field{{":method", "CONNECT"}, {":authority", "a:1"}}
	extended := connectIPFields()
	with := func(base []Field, f ...Field) []Field { return append(slices.Clone(base), f...) }
	for _, c := range []struct {
		name   string
		fields []Field
		ok     bool
	}{
		{"GET", get, true},
		{"CONNECT", connect, true},
		{"extended CONNECT", extended, true},
		{"other scheme", edit(edit(get, ":scheme", Field{":scheme", "coap"}), ":authority"), true},
		{"OPTIONS *", edit(edit(get, ":method", Field{":method", "OPTIONS"}), ":path", Field{":path", "*"}), true},
		{"host equal to :authority", with(get, Field{"host", "a"}), true},
		{"te: trailers", with(get, Field{"te", "trailers"}), true},
		{"tab in a value", with(get, Field{"x", "a\tb"}), true},
		{"byte above 0x7f in a value", with(get, Field{"x", "\xff"}), true},
		{"token characters", with(get, Field{"!#$%&'*+-.^_`|~09az", ""}), true},
		{"content-length", with(get, Field{"content-length", "12"}), true},
		{"content-length twice the same", with(get, Field{"content-length", "12, 12"}), true},

		{"empty", nil, false},
		{"no :method", edit(get, ":method"), false},                    // R9114-4.3.1-1
		{"no :scheme", edit(get, ":scheme"), false},                    // R9114-4.3.1-1
		{"no :path", edit(get, ":path"), false},                        // R9114-4.3.1-1
		{"second :method", with(get[:1], get...), false},               // R9114-4.3.1-1
		{"empty :path", edit(get, ":path", Field{":path", ""}), false}, // R9114-4.3.1-3
		{"relative :path", edit(get, ":path", Field{":path", "x"}), false},
		{"* with GET", edit(get, ":path", Field{":path", "*"}), false},
		{"no authority", edit(get, ":authority"), false},                              // R9114-4.3.1-2
		{"empty :authority", edit(get, ":authority", Field{":authority", ""}), false}, // R9114-4.3.1-2
		{"empty host", edit(get, ":authority", Field{"host", ""}), false},             // R9114-4.3.1-2
		{"host differs", with(get, Field{"host", "b"}), false},                        // R9114-4.3.1-2
		{"two hosts", with(get, Field{"host", "a"}, Field{"host", "a"}), false},       // R9114-4.3.1-2
		{"userinfo", edit(get, ":authority", Field{":authority", "u@a"}), false},
		{":status", with(get, Field{":status", "200"}), false},                       // R9114-4.3-1
		{"response field first", append([]Field{{":status", "200"}}, get...), false}, // R9114-4.3-1
		{"unknown pseudo-header field", append([]Field{{":x", "y"}}, get...), false}, // R9114-4.3-1
		{"pseudo-header field late", with(get[:3], Field{"x", "y"}, get[3]), false},  // R9114-4.3-2
		{"capital letter", with(get, Field{"X", "y"}), false},                        // R9114-4.2-2
		{"empty name", with(get, Field{"", "y"}), false},
		{"space in a name", with(get, Field{"x y", ""}), false},           // R9114-10.3-1
		{"NUL in a value", with(get, Field{"x", "a\x00b"}), false},        // R9114-10.3-1
		{"CR in a value", with(get, Field{"x", "a\rb"}), false},           // R9114-10.3-1
		{"LF in a value", with(get, Field{"x", "a\nb"}), false},           // R9114-10.3-1
		{"LF in :path", edit(get, ":path", Field{":path", "/\n"}), false}, // R9114-10.3-1
		{"space at the end of a value", with(get, Field{"x", "y "}), false},
		{"connection", with(get, Field{"connection", "close"}), false},                 // R9114-4.2-3
		{"keep-alive", with(get, Field{"keep-alive", "1"}), false},                     // R9114-4.2-3
		{"proxy-connection", with(get, Field{"proxy-connection", "x"}), false},         // R9114-4.2-3
		{"transfer-encoding", with(get, Field{"transfer-encoding", "chunked"}), false}, // R9114-4.2-3
		{"upgrade", with(get, Field{"upgrade", "x"}), false},                           // R9114-4.2-3
		{"te", with(get, Field{"te", "gzip"}), false},                                  // R9114-4.2-4
		{"content-length not a number", with(get, Field{"content-length", "x"}), false},
		{"content-length signed", with(get, Field{"content-length", "+1"}), false},
		{"content-length twice", with(get, Field{"content-length", "1"}, Field{"content-length", "2"}), false},
		{"CONNECT with :path", with(connect, Field{":path", "/"}), false},            // R9114-4.4-1
		{"CONNECT with :scheme", with(connect, Field{":scheme", "https"}), false},    // R9114-4.4-1
		{"CONNECT without :authority", connect[:1], false},                           // R9114-4.4-1
		{"extended CONNECT without :scheme", edit(extended, ":scheme"), false},       // R8441-4-1
		{"extended CONNECT without :path", edit(extended, ":path"), false},           // R8441-4-1
		{"extended CONNECT without :authority", edit(extended, ":authority"), false}, // R8441-4-1
		{":protocol with GET", with(get, Field{":protocol", "connect-ip"}), false},
	} {
		_, err := parseRequest(c.fields)
		if c.ok && err != nil || !c.ok && !isMalformed(err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestRequestIsCheckedBeforeSending(t *testing.T) {
	for _, r := range []*Request{
		{Method: "GET", Scheme: "https", Authority: "a", Path: "/", Header: Header{{"Accept", "x"}}},                  // R9114-4.2-1
		{Method: "GET", Scheme: "https", Authority: "a", Path: "/", Header: Header{{"connection", "x"}}},              // R9114-4.2-3
		{Method: "GET", Scheme: "https", Authority: "a", Path: "/", Header: Header{{"transfer-encoding", "chunked"}}}, // R9114-4.1-4
		{Method: "CONNECT", Authority: "a", Path: "/"},
	} {
		if _, err := r.fields(); !isMalformed(err) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if _, err := (&Response{Status: 404, Header: Header{CapsuleProtocol}}).fields(); err == nil { // R9297-3.4-2
		t.Error("capsule-protocol is sent with 404")
	}
	if _, err := (&Response{Status: 200, Header: Header{CapsuleProtocol}}).fields(); err != nil {
		t.Error(err)
	}
}

func TestParseResponse(t *testing.T) {
	r, err := parseResponse([]Field{{":status", "200"}, {"capsule-protocol", "?1"}})
	if err != nil || r.Status != 200 || !UsesCapsuleProtocol(r.Header) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, c := range []struct {
		name   string
		fields []Field
	}{
		{"no :status", []Field{{"x", "y"}}}, // R9114-4.3.2-1
		{"two :status", []Field{{":status", "200"}, {":status", "200"}}},
		{"request field", []Field{{":status", "200"}, {":path", "/"}}}, // R9114-4.3-1
		{"text", []Field{{":status", "abc"}}},
		{"sign", []Field{{":status", "+20"}}},
		{"four digits", []Field{{":status", "0200"}}},
		{"99", []Field{{":status", "099"}}},
		{"600", []Field{{":status", "600"}}},
		{"101", []Field{{":status", "101"}}},
		{"connection field", []Field{{":status", "200"}, {"connection", "close"}}}, // R9114-4.2-3
	} {
		if _, err := parseResponse(c.fields); !isMalformed(err) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestTrailers(t *testing.T) {
	if err := checkTrailers([]Field{{"x", "y"}}); err != nil {
		t.Error(err)
	}
	for _, f := range []Field{{":path", "/"}, {":status", "200"}, {"X", "y"}, {"content-length", "1"}} { // R9114-4.3-1
		if err := checkTrailers([]Field{f}); !isMalformed(err) {
			t.Errorf("trailer %q: %v", f, err)
		}
	}
}

func TestCapsuleProtocolField(t *testing.T) { // R9297-3.4-1
	for v, want := range map[string]bool{
		"?1":                              true,
		"?0":                              false,
		"":                                false,
		"1":                               false,
		"?2":                              false,
		"true":                            false,
		"?1, ?1":                          false,
		"?1;a":                            true,
		"?1;a=1":                          true,
		"?1; a=-1.5;b=\"x\\\"y\";c=t/o:k": true,
		"?1;*a=:YWJj:;b=?0;c=?1":          true,
		"?1;":                             false,
		"?1;A":                            false,
		"?1;a=":                           false,
		"?1;a=\"x":                        false,
		"?1;a=\"\\x\"":                    false,
		"?1;a=\" ~\"":                     true,
		"?1;a=:YWJj":                      false,
		"?1;a=-":                          false,
		"?1;a=1.":                         false,
		"?1;a=?2":                         false,
		"?1;a=!":                          false,
		"?1 x":                            false,
	} {
		if got := UsesCapsuleProtocol(Header{{"capsule-protocol", v}}); got != want {
			t.Errorf("%q: %v", v, got)
		}
	}
	if UsesCapsuleProtocol(Header{CapsuleProtocol, CapsuleProtocol}) {
		t.Error("a list counts")
	}
}

func TestCheckCapsuleMessage(t *testing.T) { // R9297-3.2-2
	for _, c := range []struct {
		h      Header
		status int
		ok     bool
	}{
		{Header{CapsuleProtocol}, 0, true},
		{Header{CapsuleProtocol}, 200, true},
		{nil, 204, false},
		{nil, 205, false},
		{nil, 206, false},
		{Header{{"content-length", "0"}}, 0, false},
		{Header{{"content-type", "text/plain"}}, 200, false},
		{Header{{"transfer-encoding", "chunked"}}, 200, false},
	} {
		if err := CheckCapsuleMessage(c.h, c.status); c.ok && err != nil || !c.ok && !isMalformed(err) {
			t.Errorf("%q, %d: %v", c.h, c.status, err)
		}
	}
}

func TestErrorStrings(t *testing.T) {
	if s := (&ConnError{ErrFrame, "x"}).Error(); !strings.Contains(s, "H3_FRAME_ERROR: x") {
		t.Error(s)
	}
	if s := (&StreamError{Code: 0x1234}).Error(); !strings.Contains(s, "0x1234") {
		t.Error(s)
	}
}
