// SPDX-License-Identifier: Apache-2.0

package qlog

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// recordSeparator begins each record of a JSON text sequence: RFC 7464.
const recordSeparator = 0x1e

// maxSafeInteger is the largest integer that all JSON parsers keep: RFC 7493 section 2.2.
const maxSafeInteger = 1<<53 - 1

// appendObject appends the object with these members; of members without a key nothing
// is written, as slog.Handler demands.
func appendObject(b []byte, members []slog.Attr) []byte {
	b = append(b, '{')
	start := len(b)
	b = appendMembers(b, start, members)
	return append(b, '}')
}

// appendMembers appends members to the object whose first one is at start.
func appendMembers(b []byte, start int, members []slog.Attr) []byte {
	for _, a := range members {
		v := a.Value.Resolve()
		if v.Kind() == slog.KindGroup && a.Key == "" { // inlined
			b = appendMembers(b, start, v.Group())
			continue
		}
		if a.Key == "" {
			continue
		}
		b = appendKey(b, start, a.Key)
		b = appendValue(b, v)
	}
	return b
}

func appendKey(b []byte, start int, key string) []byte {
	if len(b) > start {
		b = append(b, ',')
	}
	return append(appendString(b, key), ':')
}

func appendValue(b []byte, v slog.Value) []byte {
	v = v.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return appendString(b, v.String())
	case slog.KindInt64:
		return strconv.AppendInt(b, v.Int64(), 10)
	case slog.KindUint64:
		return appendUint(b, v.Uint64())
	case slog.KindFloat64:
		return appendFloat(b, v.Float64())
	case slog.KindBool:
		return strconv.AppendBool(b, v.Bool())
	case slog.KindDuration:
		return appendMilliseconds(b, v.Duration())
	case slog.KindTime:
		return appendString(b, v.Time().UTC().Format(time.RFC3339Nano))
	case slog.KindGroup:
		return appendObject(b, v.Group())
	}
	return appendAny(b, v.Any())
}

func appendAny(b []byte, v any) []byte {
	switch v := v.(type) {
	case []byte:
		b = append(b, '"')
		b = hex.AppendEncode(b, v)
		return append(b, '"')
	case []slog.Value:
		return appendArray(b, v, appendValue)
	case []uint64:
		return appendArray(b, v, appendUint)
	case [][]uint64:
		return appendArray(b, v, func(b []byte, w []uint64) []byte { return appendArray(b, w, appendUint) })
	case error:
		return appendString(b, v.Error())
	}
	text, err := json.Marshal(v)
	if err != nil {
		return appendString(b, fmt.Sprint(v))
	}
	return append(b, text...)
}

func appendArray[T any](b []byte, elements []T, element func([]byte, T) []byte) []byte {
	b = append(b, '[')
	for i, e := range elements {
		if i > 0 {
			b = append(b, ',')
		}
		b = element(b, e)
	}
	return append(b, ']')
}

// appendUint appends a number, or a string for one that a JSON parser might round:
// draft-ietf-quic-qlog-main-schema section "JSON Interoperability".
func appendUint(b []byte, v uint64) []byte {
	if v <= maxSafeInteger {
		return strconv.AppendUint(b, v, 10)
	}
	b = append(b, '"')
	b = strconv.AppendUint(b, v, 10)
	return append(b, '"')
}

func appendFloat(b []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) { // JSON has none
		return append(b, "null"...)
	}
	return strconv.AppendFloat(b, v, 'f', -1, 64)
}

func appendMilliseconds(b []byte, d time.Duration) []byte {
	return appendFloat(b, float64(d)/float64(time.Millisecond))
}

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			text, _ := json.Marshal(s) // a string cannot fail
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
