// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"errors"

	"golang.org/x/net/http2/hpack"
)

var (
	errQPACKTruncated = errors.New("truncated field section")
	errQPACKInteger   = errors.New("integer above 62 bits")
)

func decompressionFailed(reason string) *ConnError {
	return &ConnError{ErrQPACKDecompression, reason}
}

// decodeFieldSection decodes a whole field section. We announce a dynamic table
// of capacity 0, so any reference to it is an error of the peer. maxSize bounds
// the result as RFC 9114 section 4.2.2 counts: name + value + 32 per field.
// The error is a *ConnError, or a *StreamError for a section that is too large.
func decodeFieldSection(b []byte, maxSize int) ([]Field, error) {
	ric, b, err := consumePrefixInt(b, 8)
	if err != nil {
		return nil, fieldSectionError(err)
	}
	if ric != 0 {
		return nil, decompressionFailed("Required Insert Count without a dynamic table") // R9204-4.5.1.1-1
	}
	if len(b) == 0 {
		return nil, decompressionFailed(errQPACKTruncated.Error())
	}
	if b[0]&0x80 != 0 {
		return nil, decompressionFailed("negative Base") // R9204-4.5.1.2-1
	}
	if _, b, err = consumePrefixInt(b, 7); err != nil {
		return nil, fieldSectionError(err)
	}
	var fields []Field
	for size := 0; len(b) > 0; {
		var f Field
		if f, b, err = consumeFieldLine(b); err != nil {
			return nil, fieldSectionError(err)
		}
		if size += f.size(); size > maxSize {
			return nil, &StreamError{ErrExcessiveLoad, "field section too large"}
		}
		fields = append(fields, f)
	}
	return fields, nil
}

// fieldSectionError gives an error of a field section its code. What is too large
// to decode ends only the request. // R9204-7.4-1
func fieldSectionError(err error) error {
	if err == errQPACKInteger {
		return &StreamError{ErrQPACKDecompression, err.Error()}
	}
	return decompressionFailed(err.Error())
}

func consumeFieldLine(b []byte) (f Field, rest []byte, err error) {
	switch first := b[0]; {
	case first&0xc0 == 0xc0: // indexed field line, static table
		return consumeStatic(b, 6)
	case first&0xf0 == 0x50, first&0xf0 == 0x70: // literal with name reference, static table
		if f, b, err = consumeStatic(b, 4); err != nil {
			return f, nil, err
		}
	case first&0xe0 == 0x20: // literal with literal name
		if f.Name, b, err = consumeQPACKString(b, 3); err != nil {
			return f, nil, err
		}
	default: // indexed or named in the dynamic table, before or after the Base
		return f, nil, errors.New("reference to the dynamic table") // R9204-2.2.3-1
	}
	f.Value, b, err = consumeQPACKString(b, 7)
	return f, b, err
}

// consumeStatic reads an index with an n-bit prefix and looks it up in the static table.
func consumeStatic(b []byte, n uint) (Field, []byte, error) {
	i, b, err := consumePrefixInt(b, n)
	if err != nil {
		return Field{}, nil, err
	}
	if i >= uint64(len(staticTable)) {
		return Field{}, nil, errors.New("index beyond the static table") // R9204-3.1-1
	}
	return staticTable[i], b, nil
}

// consumeQPACKString reads a string literal whose length has an n-bit prefix; the
// Huffman flag is the bit above it.
func consumeQPACKString(b []byte, n uint) (string, []byte, error) {
	if len(b) == 0 {
		return "", nil, errQPACKTruncated
	}
	huffman := b[0]&(1<<n) != 0
	size, b, err := consumePrefixInt(b, n)
	if err != nil {
		return "", nil, err
	}
	if size > uint64(len(b)) {
		return "", nil, errQPACKTruncated
	}
	if !huffman {
		return string(b[:size]), b[size:], nil
	}
	s, err := hpack.HuffmanDecodeToString(b[:size])
	return s, b[size:], err
}

// consumePrefixInt reads an integer with an n-bit prefix (RFC 7541 section 5.1),
// of at most 62 bits. // R9204-4.1.1-1
func consumePrefixInt(b []byte, n uint) (v uint64, rest []byte, err error) {
	if len(b) == 0 {
		return 0, nil, errQPACKTruncated
	}
	limit := uint64(1)<<n - 1
	if v = uint64(b[0]) & limit; v < limit {
		return v, b[1:], nil
	}
	for i, c := range b[1:] {
		// Nine groups of 7 bits hold every 62-bit value behind any prefix; one
		// empty group more is tolerated, an endless run of them is not.
		switch {
		case i < 9:
			v += uint64(c&0x7f) << (7 * i)
		case c != 0:
			return 0, nil, errQPACKInteger
		}
		if v > MaxVarint {
			return 0, nil, errQPACKInteger
		}
		if c&0x80 == 0 {
			return v, b[2+i:], nil
		}
	}
	return 0, nil, errQPACKTruncated
}
