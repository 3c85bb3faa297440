// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import "testing"

func TestSpread(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   Spread
	}{
		{[]float64{3}, Spread{3, 3, 3}},
		{[]float64{4, 1}, Spread{2.5, 1, 4}},
		{[]float64{9, 1, 2}, Spread{2, 1, 9}},
		{[]float64{4, 3, 2, 1}, Spread{2.5, 1, 4}},
	} {
		if got := SpreadOf(test.values); got != test.want {
			t.Errorf("%v: %v, want %v", test.values, got, test.want)
		}
	}
}

func TestNumber(t *testing.T) {
	for x, want := range map[float64]string{0: "0.00", 999.994: "999.99", 1234.5: "1 234.50", -1234567: "-1 234 567.00", -123: "-123.00"} {
		if got := Number(x, 2); got != want {
			t.Errorf("%v: %q, want %q", x, got, want)
		}
	}
}
