// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Spread is the median of the rounds, with the lowest and the highest.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// SpreadOf summarizes at least one value.
func SpreadOf(values []float64) Spread {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return Spread{Median: (v[(n-1)/2] + v[n/2]) / 2, Low: v[0], High: v[n-1]}
}

// Text is "median (low–high)"; of one round the value alone.
func (s Spread) Text(decimals, rounds int) string {
	if rounds == 1 {
		return Number(s.Median, decimals)
	}
	return fmt.Sprintf("%s (%s–%s)", Number(s.Median, decimals), Number(s.Low, decimals), Number(s.High, decimals))
}

// Number shows x with a number of decimals, and groups the digits of large numbers by thousands.
func Number(x float64, decimals int) string {
	s := strconv.FormatFloat(x, 'f', decimals, 64)
	whole, rest, point := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + " " + whole[i:]
	}
	if point {
		whole += "." + rest
	}
	return whole
}
