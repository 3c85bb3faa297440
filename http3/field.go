// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"strconv"
	"strings"
)

// Field is one field line: a header field, or a pseudo-header field whose name
// starts with a colon. Names are in lower case.
type Field struct{ Name, Value string }

// size is what the field counts towards SETTINGS_MAX_FIELD_SECTION_SIZE.
func (f Field) size() int { return len(f.Name) + len(f.Value) + 32 }

// Header is a list of header fields in the order of the message, without
// pseudo-header fields.
type Header []Field

// Get returns the value of the first field called name (lower case), "" if there is none.
func (h Header) Get(name string) string {
	for _, f := range h {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Has tells whether there is a field called name (lower case).
func (h Header) Has(name string) bool { return h.count(name) > 0 }

func (h Header) count(name string) (n int) {
	for _, f := range h {
		if f.Name == name {
			n++
		}
	}
	return n
}

// checkField tells what makes a field that is not a pseudo-header field
// malformed, "" if nothing does.
func checkField(f Field, trailer bool) string {
	if f.Name == "" {
		return "empty field name"
	}
	for i := 0; i < len(f.Name); i++ {
		if !isFieldNameByte(f.Name[i]) {
			return "invalid character in a field name" // R9114-4.2-2 R9114-10.3-1
		}
	}
	if !validFieldValue(f.Value) {
		return "invalid character in a field value" // R9114-10.3-1
	}
	switch f.Name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		return "connection-specific field " + f.Name // R9114-4.2-3 R9114-4.1-4
	case "te":
		if f.Value != "trailers" {
			return "te other than trailers" // R9114-4.2-4
		}
	case "content-length":
		if trailer {
			return "content-length in trailers"
		}
	}
	return ""
}

// isFieldNameByte: the characters of a token (RFC 9110 section 5.6.2) without
// capital letters.
func isFieldNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// validFieldValue: no control character but an inner tab, no space at the ends
// (RFC 9110 section 5.5).
func validFieldValue(v string) bool {
	for i := 0; i < len(v); i++ {
		if v[i] < ' ' && v[i] != '\t' || v[i] == 0x7f {
			return false
		}
	}
	return v == strings.Trim(v, " \t")
}

// contentLength returns the content-length of h, -1 when there is none. Several
// equal values count as one (RFC 9110 section 8.6).
func contentLength(h Header) (n int64, ok bool) {
	n = -1
	for _, f := range h {
		if f.Name != "content-length" {
			continue
		}
		for v := range strings.SplitSeq(f.Value, ",") {
			v = strings.Trim(v, " \t")
			m, err := strconv.ParseUint(v, 10, 63)
			if err != nil || v[0] == '+' || n >= 0 && n != int64(m) {
				return 0, false
			}
			n = int64(m)
		}
	}
	return n, true
}
