// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxConfigBytes bounds what is read as a configuration file.
const maxConfigBytes = 1 << 20

// readConfigFile reads an INI file or, when it begins with a brace, a JSON file.
func readConfigFile(path string) ([]setting, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, failf(ExitUsage, "--config: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigBytes+1))
	if err == nil && len(data) > maxConfigBytes {
		err = fmt.Errorf("%s: larger than %d bytes", path, maxConfigBytes)
	}
	if err != nil {
		return nil, failf(ExitUsage, "--config: %w", err)
	}
	return parseConfig(filepath.Base(path), data)
}

// parseConfig splits a file into settings; name is what messages call it.
func parseConfig(name string, data []byte) ([]setting, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // byte order mark
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return parseJSON(name, data)
	}
	return parseINI(name, string(data))
}

// parseINI reads [Section] and Key = Value lines. Names are compared without
// regard to case. A comment begins with # or ; at the start of a line or after a
// blank; a value in double quotes is taken as it is.
func parseINI(name, text string) ([]setting, error) {
	var out []setting
	section := ""
	for i, line := range strings.Split(text, "\n") {
		at := fmt.Sprintf("%s:%d", name, i+1)
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			title, rest, ok := strings.Cut(line[1:], "]")
			if rest = strings.TrimSpace(rest); !ok || rest != "" && rest[0] != '#' && rest[0] != ';' {
				return nil, failf(ExitUsage, "%s: %q: want [Section]", at, plainWord(line))
			}
			section = strings.TrimSpace(title)
			if known, ok := nearest(section, iniSections()); !ok {
				return nil, failf(ExitUsage, "%s: unknown section [%s]; the nearest known one is [%s]", at, section, known)
			}
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		if !ok || key != plainWord(key) {
			return nil, failf(ExitUsage, "%s: %q: want Key = Value", at, plainWord(line))
		}
		opt, err := iniOption(section, key)
		if err != nil {
			return nil, failf(ExitUsage, "%s: %w", at, err)
		}
		value, err = iniValue(strings.TrimSpace(value))
		if err != nil {
			return nil, failf(ExitUsage, "%s: %s: %w", at, key, err)
		}
		out = append(out, setting{opt, value, at + ": " + key})
	}
	return out, nil
}

// plainWord is the first word of a line, for messages. What follows, and what does not
// look like the name of an option, may be a key.
func plainWord(line string) string {
	const longest = 20
	words := strings.Fields(line)
	if len(words) == 0 || len(words[0]) > longest || strings.Trim(words[0], plainLetters) != "" {
		return "…"
	}
	return words[0]
}

const plainLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-[]"

func iniValue(v string) (string, error) {
	if strings.HasPrefix(v, `"`) {
		inner, rest, ok := strings.Cut(v[1:], `"`)
		if rest = strings.TrimSpace(rest); !ok || rest != "" && rest[0] != '#' && rest[0] != ';' {
			return "", errors.New("a value in quotes must end with one quote")
		}
		return inner, nil
	}
	for i := range len(v) {
		if (v[i] == '#' || v[i] == ';') && (i == 0 || v[i-1] == ' ' || v[i-1] == '\t') {
			return strings.TrimSpace(v[:i]), nil
		}
	}
	return v, nil
}

func iniSections() []string {
	var names []string
	for _, o := range options {
		if o.section != "" {
			names = append(names, o.section)
		}
	}
	return names
}

func iniOption(section, key string) (*option, error) {
	var names []string
	for _, o := range options {
		if strings.EqualFold(o.section, section) && strings.EqualFold(o.key, key) {
			return o, nil
		}
		names = append(names, iniName(o.section, o.key))
	}
	known, _ := nearest(iniName(section, key), names)
	return nil, fmt.Errorf("unknown key %s; the nearest known one is %s", iniName(section, key), known)
}

func iniName(section, key string) string {
	if section == "" {
		return key
	}
	return "[" + section + "] " + key
}

// parseJSON reads one object whose values are scalars or lists of scalars; a user
// may also be an object with name and key.
func parseJSON(name string, data []byte) ([]setting, error) {
	at := func(offset int64) string {
		offset = min(max(offset, 0), int64(len(data)))
		return fmt.Sprintf("%s:%d", name, 1+bytes.Count(data[:offset], []byte("\n")))
	}
	if err := json.Unmarshal(data, new(map[string]json.RawMessage)); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return nil, failf(ExitUsage, "%s: not valid JSON: %w", at(syntax.Offset), err)
		}
		return nil, failf(ExitUsage, "%s: not a JSON object: %w", name, err)
	}
	// It is a whole object, so the steps below can only fail on what they check.
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.Token()
	var out []setting
	for dec.More() {
		token, _ := dec.Token()
		key, line := token.(string), at(dec.InputOffset())
		opt, err := jsonOption(key)
		if err != nil {
			return nil, failf(ExitUsage, "%s: %w", line, err)
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, failf(ExitUsage, "%s: %s: %w", line, key, err)
		}
		values, err := jsonValues(opt, raw)
		if err != nil {
			return nil, failf(ExitUsage, "%s: %s: %w", line, key, err)
		}
		for _, v := range values {
			out = append(out, setting{opt, v, line + ": " + key})
		}
	}
	return out, nil
}

func jsonOption(key string) (*option, error) {
	var names []string
	for _, o := range options {
		if o.json == key {
			return o, nil
		}
		names = append(names, o.json)
	}
	known, _ := nearest(key, names)
	return nil, fmt.Errorf("unknown key %q; the nearest known one is %q", key, known)
}

func jsonValues(opt *option, raw json.RawMessage) ([]string, error) {
	elems := []json.RawMessage{raw}
	if raw[0] == '[' {
		if !opt.list {
			return nil, errors.New("want one value, not a list")
		}
		if err := json.Unmarshal(raw, &elems); err != nil {
			return nil, err
		}
	}
	var out []string
	for _, e := range elems {
		v, err := jsonScalar(opt, e)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

func jsonScalar(opt *option, raw json.RawMessage) (string, error) {
	switch {
	case raw[0] == '"':
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err
	case raw[0] == '{' && opt.json == "users":
		var u struct{ Name, Key string }
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&u); err != nil {
			return "", fmt.Errorf(`want {"name": "NAME", "key": "KEY"}: %w`, err)
		}
		return u.Name + ":" + u.Key, nil
	case raw[0] == '{' || raw[0] == '[' || raw[0] == 'n':
		return "", errors.New("want a string, a number, true or false")
	}
	return string(raw), nil // number, true, false
}

// nearest finds the name with the smallest edit distance to what was written, case
// ignored; ok when it is the same. The start of a name is as good as one typing error.
func nearest(written string, names []string) (name string, ok bool) {
	best := -1
	written = strings.ToLower(written)
	for _, n := range names {
		lower := strings.ToLower(n)
		d := editDistance(written, lower)
		if strings.HasPrefix(lower, written) {
			d = min(d, 1)
		}
		if best < 0 || d < best {
			best, name = d, n
		}
	}
	return name, best == 0
}

// editDistance counts the bytes to insert, delete or replace that make a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
