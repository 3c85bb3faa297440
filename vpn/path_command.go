// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// editPaths is the command path: it lists the paths of the program at the control
// socket, or changes which interfaces it uses.
func editPaths(ctx context.Context, socket string, args []string, out io.Writer) error {
	req := controlRequest{}
	switch {
	case len(args) == 1 && args[0] == "list":
		line, err := askControl(ctx, socket, controlRequest{Cmd: "get_status"})
		if err != nil {
			return err
		}
		var st clientStatus
		if err := json.Unmarshal(line, &st); err != nil {
			return fmt.Errorf("control socket: %w", err)
		}
		return printPaths(st.Paths, out)
	case len(args) == 2 && args[0] == "add", len(args) == 2 && args[0] == "remove":
		req = controlRequest{Cmd: "path_" + args[0], Path: args[1]}
	case len(args) == 3 && args[0] == "priority":
		req = controlRequest{Cmd: "path_priority", Path: args[1], Priority: args[2]}
	default:
		return failf(ExitUsage, "path %s: want list, add IFACE, remove IFACE, or priority IFACE primary|secondary|backup|never", strings.Join(args, " "))
	}
	_, err := askControl(ctx, socket, req)
	return err
}
