// SPDX-License-Identifier: Apache-2.0

package http3

import "golang.org/x/net/http2/hpack"

// appendFieldSection appends the encoded field section of fields. Only the static
// table and literals are used, so there is nothing for an encoder stream to say
// and the Required Insert Count is always 0. // R9204-3.2.3-1
func appendFieldSection(b []byte, fields []Field) []byte {
	b = append(b, 0, 0) // Required Insert Count, Sign and Delta Base
	for _, f := range fields {
		b = appendFieldLine(b, f)
	}
	return b
}

func appendFieldLine(b []byte, f Field) []byte {
	if i, ok := staticFields[f]; ok {
		return appendPrefixInt(b, 0xc0, 6, i) // indexed field line, static table
	}
	// A credential is marked never-indexed, so that an intermediary does not put
	// it into a dynamic table where its value can be guessed.
	var never byte
	if f.Name == "authorization" {
		never = 1
	}
	if i, ok := staticNames[f.Name]; ok {
		b = appendPrefixInt(b, 0x50|never<<5, 4, i) // literal with name reference, static table
	} else {
		b = appendQPACKString(b, 0x20|never<<4, 3, f.Name) // literal with literal name
	}
	return appendQPACKString(b, 0, 7, f.Value)
}

// appendQPACKString appends a string literal whose length has an n-bit prefix in
// a byte that starts with the bits first; the Huffman flag is the bit above the prefix.
func appendQPACKString(b []byte, first byte, n uint, s string) []byte {
	if size := hpack.HuffmanEncodeLength(s); size < uint64(len(s)) {
		b = appendPrefixInt(b, first|1<<n, n, size)
		return hpack.AppendHuffmanString(b, s)
	}
	b = appendPrefixInt(b, first, n, uint64(len(s)))
	return append(b, s...)
}

// appendPrefixInt appends v as an integer with an n-bit prefix (RFC 7541 section
// 5.1); first holds the bits above the prefix.
func appendPrefixInt(b []byte, first byte, n uint, v uint64) []byte {
	limit := uint64(1)<<n - 1
	if v < limit {
		return append(b, first|byte(v))
	}
	b = append(b, first|byte(limit))
	for v -= limit; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}
