// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"path"
	"slices"
	"strings"
)

// autoPath is what --path takes for "each interface with a default route".
const autoPath = "auto"

// isPattern reports whether a value of --path selects among the interfaces that have
// a default route, now and later, instead of naming one: "auto", a glob, or one to be
// left out, which begins with an exclamation mark.
func isPattern(wanted string) bool {
	return wanted == autoPath || strings.ContainsAny(wanted, "!*?[")
}

// selectInterfaces applies values of --path, in their order, to the interfaces that
// have a default route. Names are taken as they are. Exclusions alone mean auto
// without them.
func selectInterfaces(wanted, candidates []string) (names []string) {
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	var without []string
	for _, w := range wanted {
		if glob, ok := strings.CutPrefix(w, "!"); ok {
			without = append(without, glob)
		}
	}
	if len(without) > 0 && len(without) == len(wanted) {
		wanted = []string{autoPath}
	}
	for _, w := range wanted {
		switch {
		case !isPattern(w):
			add(w)
		case !strings.HasPrefix(w, "!"):
			for _, c := range candidates {
				if (w == autoPath || matches(w, c)) && !slices.ContainsFunc(without, func(glob string) bool { return matches(glob, c) }) {
					add(c)
				}
			}
		}
	}
	return names
}

// matches is path.Match with a pattern that was checked when it was read.
func matches(glob, name string) bool {
	ok, _ := path.Match(glob, name)
	return ok
}
