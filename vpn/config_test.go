// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/quic"
)

// parse reads a configuration as the programs do.
func parse(mode Mode, file string, args ...string) (*Config, error) {
	inv, err := parseArgs(mode, args)
	if err != nil {
		return nil, err
	}
	var settings []setting
	if file != "" {
		if settings, err = parseConfig("test.conf", []byte(file)); err != nil {
			return nil, err
		}
	}
	return newConfig(mode, settings, inv.given)
}

const pinHex = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

var pinBytes = bytes.Repeat([]byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}, 2)

// TestConfigForms writes every key in all three forms and wants the same from each.
func TestConfigForms(t *testing.T) {
	client := defaultConfig(ModeClient)
	client.Servers = []ServerAddr{{"203.0.113.1", 443}, {"2001:db8::1", 8443}}
	client.TLSServerName, client.Pin = "vpn.example.com", pinBytes
	client.TunName, client.MTU, client.LogLevel = "tun7", 1400, slog.LevelDebug
	client.Reconnect, client.ReconnectInterval, client.ManageRoutes = false, 3*time.Second, false
	client.AuthKey, client.Paths = "k=/+", []string{"eth0", "wlan0"}
	client.Scheduler, client.Control = "minrtt", "/tmp/c.sock"
	client.CongestionControl = quic.BBR

	server := defaultConfig(ModeServer)
	server.Listen = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:4443"), netip.MustParseAddrPort("[::]:4443")}
	server.listenIsDefault = false
	server.Subnet, server.Subnet6 = pfx("10.8.0.0/16"), pfx("fd12::/64")
	server.NAT, server.CertFile, server.KeyFile = false, "a.crt", "a.key"
	server.AuthKey, server.Users = "shared", []User{{"alice", "k1"}, {"bob", "k2:x"}}
	server.MaxClients, server.LogLevel = 64, slog.LevelWarn

	for _, tt := range []struct {
		name string
		mode Mode
		file string
		args []string
		want *Config
	}{
		{name: "client flags", mode: ModeClient, want: client, args: strings.Fields("--mode client" +
			" --server 203.0.113.1:443 -s [2001:db8::1]:8443 --tls-server-name vpn.example.com --pin " + pinHex +
			" --tun-name tun7 --mtu 1400 --no-reconnect --reconnect-interval 3 --no-manage-routes --log-level debug" +
			" --auth-key k=/+ --path eth0 -p wlan0 --scheduler minrtt --cc bbr --control /tmp/c.sock")},
		{name: "client INI", mode: ModeClient, want: client, file: `
Mode = client
[Server]
Address = 203.0.113.1, [2001:db8::1]:8443   ; the second is used when the first does not answer
ServerName = vpn.example.com
Insecure = false
Pin = sha256:` + pinHex + `
[interface]
tunname=tun7
MTU = 1400 # bytes
Reconnect = no
ReconnectInterval = 3
ManageRoutes = false
LogLevel = debug
[Auth]
Key = "k=/+"
[Multipath]
Path = eth0
Path = wlan0
Scheduler = minrtt
CC = bbr2
[Control]
Listen = /tmp/c.sock
`},
		{name: "client JSON", mode: ModeClient, want: client, file: `{
  "mode": "client", "server_addr": ["203.0.113.1:443", "[2001:db8::1]:8443"],
  "tls_server_name": "vpn.example.com", "insecure": false, "pin": "` + strings.ToUpper(pinHex) + `",
  "tun_name": "tun7", "mtu": 1400, "reconnect": false, "reconnect_interval": 3, "manage_routes": false,
  "log_level": "debug", "auth_key": "k=/+", "paths": ["eth0", "wlan0"], "scheduler": "minrtt", "cc": "bbr",
  "control_listen": "/tmp/c.sock"
}`},
		{name: "server flags", mode: ModeServer, want: server, args: strings.Fields(
			"--listen 0.0.0.0:4443 -l [::]:4443 -n 10.8.0.0/16 -6 fd12::/64 --nat off -c a.crt -k a.key -a shared" +
				" -u alice:k1 --user bob:k2:x -M 64 -L warn")},
		{name: "server INI", mode: ModeServer, want: server, file: `
[Interface]
Listen = :4443
Subnet = 10.8.0.0/16
Subnet6 = fd12::/64
NAT = off
LogLevel = warn
[TLS]
Cert = a.crt
Key = a.key
[Auth]
Key = shared
User = alice:k1
User = bob:k2:x
MaxClients = 64
`},
		{name: "server JSON", mode: ModeServer, want: server, file: `{
  "listen": ":4443", "subnet": "10.8.0.0/16", "subnet6": "fd12::/64", "nat": "off", "log_level": "warn",
  "cert_file": "a.crt", "key_file": "a.key", "auth_key": "shared",
  "users": [{"name": "alice", "key": "k1"}, "bob:k2:x"], "max_clients": 64
}`},
	} {
		got, err := parse(tt.mode, tt.file, tt.args...)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		} else if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.name, got, tt.want)
		}
	}
}

func TestConfigNoCongestionControl(t *testing.T) {
	cfg, err := parse(ModeServer, "[Multipath]\nCC = none\n[Auth]\nKey = k\n")
	if err != nil || cfg.CongestionControl != quic.BBR || len(cfg.Warnings) != 1 || !strings.Contains(cfg.Warnings[0], "using bbr") {
		t.Errorf("%+v, %v", cfg, err)
	}
}

func TestConfigCommandLineGoesFirst(t *testing.T) {
	file := "[Server]\nAddress = a.example\nAddress = b.example\n[Auth]\nKey = k\n[Interface]\nMTU = 1300\n"
	cfg, err := parse(ModeClient, file, "--server", "c.example", "--mtu", "9000")
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Servers) != 1 || cfg.Servers[0] != (ServerAddr{"c.example", 443}) || cfg.MTU != maxMTU {
		t.Errorf("servers %v, MTU %d", cfg.Servers, cfg.MTU)
	}
	if len(cfg.Warnings) != 1 || !strings.Contains(cfg.Warnings[0], "9000") {
		t.Errorf("an MTU that is too large is clamped with a warning, have %q", cfg.Warnings)
	}
	if cfg.AuthKey != "k" || cfg.TunName != "mqvpn0" || !cfg.Reconnect {
		t.Errorf("file or defaults lost: %+v", cfg)
	}
}

// TestConfigMessages wants each message to name the place, the value, and what
// would be accepted.
func TestConfigMessages(t *testing.T) {
	client := []string{"--server", "h", "--auth-key", "k"}
	server := []string{"--user", "a:k"}
	for _, tt := range []struct {
		mode Mode
		file string
		args []string
		want []string
	}{
		{ModeClient, "", nil, []string{"--server", "[Server] Address"}},
		{ModeClient, "", []string{"-s", "h"}, []string{"--auth-key"}},
		{ModeClient, "", append(client, "--mtu", "1200"), []string{"--mtu", `"1200"`, "1280 to 1984"}},
		{ModeClient, "", append(client, "--mtu", "1400", "--mtu", "1401"), []string{"--mtu", "twice"}},
		{ModeClient, "", append(client, "--sever", "x"), []string{"--sever", "--server"}},
		{ModeClient, "", append(client, "--listen", ":1"), []string{"--listen"}},
		{ModeClient, "", append(client, "--mode", "server"), []string{"--mode", "want client"}},
		{ModeClient, "", append(client, "--pin", "ab"), []string{"--pin", "64 hexadecimal digits"}},
		{ModeClient, "", append(client, "--pin", pinHex, "--insecure"), []string{"--pin", "--insecure"}},
		{ModeClient, "", append(client, "-p", "eth0", "-p", "eth0"), []string{"--path", "eth0", "twice"}},
		{ModeClient, "", append(client, "--scheduler", "rr"), []string{"--scheduler", `"rr"`, "wlb, minrtt, wlb_udp_pin or backup"}},
		{ModeClient, "", append(client, "--cc", "vegas"), []string{"--cc", `"vegas"`, "bbr, cubic or reno"}},
		{ModeServer, "[Multipath]\nCC = quick", nil, []string{"CC", `"quick"`, "bbr, cubic or reno"}},
		{ModeClient, "", append(client, "--reconnect-interval", "0"), []string{"--reconnect-interval", "0.1 to 3600"}},
		{ModeClient, "", append(client, "-t", "much-too-long-a-name"), []string{"--tun-name", "15"}},
		{ModeClient, "", append(client, "-L", "loud"), []string{"--log-level", "debug, info"}},
		{ModeClient, "", append(client, "--json"), []string{"--json", "status"}},
		{ModeClient, "", append(client, "stauts"), []string{`"stauts"`, `"status"`}},
		{ModeClient, "", append(client, "init"), []string{`"init"`}},
		{ModeClient, "", []string{"-s", "h:x", "-a", "k"}, []string{"--server", `"h:x"`, "HOST:PORT"}},
		{ModeClient, "[Server]\nAddress = h:0\n", nil, []string{"test.conf:2", "Address", `"h:0"`, "HOST:PORT"}},
		{ModeClient, "\n[Server]\n\nAdress = h\n", nil, []string{"test.conf:4", "[Server] Adress", "[Server] Address"}},
		{ModeClient, "[Intreface]\n", nil, []string{"test.conf:1", "[Intreface]", "[Interface]"}},
		{ModeClient, "[Server\n", nil, []string{"test.conf:1", "[Section]"}},
		{ModeClient, "[Server]\nAddress\n", nil, []string{"test.conf:2", "Key = Value"}},
		{ModeClient, "[Server]\nAddress = \"h\n", nil, []string{"test.conf:2", "quote"}},
		{ModeClient, "[Interface]\nMTU = 1300\nMTU = 1400\n", client, []string{"test.conf:3", "twice", "test.conf:2"}},
		{ModeClient, "[Interface]\nListen = :443\n", client, []string{"test.conf:2", "not an option of mqvpn-client"}},
		{ModeClient, "[Interface]\nKillSwitch = true\n", client, []string{"test.conf:2", "unknown key"}},
		{ModeClient, "{\n\"server\": 1}", nil, []string{"test.conf:2", `"server"`, `"server_addr"`}},
		{ModeClient, "{\n\"mtu\": [1400]}", nil, []string{"test.conf:2", "mtu", "one value"}},
		{ModeClient, "{\n\n\"mtu\": null}", nil, []string{"test.conf:3", "mtu", "want a string"}},
		{ModeClient, "{\n\"mtu\": 12,}", nil, []string{"test.conf:2", "JSON"}},
		{ModeClient, "{\n\"mtu\": 12}", client, []string{"test.conf:2", "mtu", `"12"`, "1280 to 1984"}},
		{ModeServer, "", nil, []string{"--user", "init"}},
		{ModeServer, "", []string{"--user", "alice"}, []string{"--user", "NAME:KEY"}},
		{ModeServer, "", []string{"--user", "a:k", "--user", "a:l"}, []string{"--user", `"a"`, "twice"}},
		{ModeServer, "", []string{"--user", "a:k", "--user", "b:k"}, []string{"--user", `"b"`, "same key"}},
		{ModeServer, "", []string{"--user", "a:k", "--auth-key", "k"}, []string{"--user", `"a"`, "same key"}},
		{ModeServer, "", append(server, "--subnet", "fd00::/64"), []string{"--subnet", "10.0.0.0/24"}},
		{ModeServer, "", append(server, "--subnet6", "10.0.0.0/24"), []string{"--subnet6", "32 to 126"}},
		{ModeServer, "", append(server, "--nat", "on"), []string{"--nat", "auto or off"}},
		{ModeServer, "", append(server, "--max-clients", "-1"), []string{"--max-clients"}},
		{ModeServer, "", append(server, "--listen", "eth0"), []string{"--listen", `"eth0"`, "ADDRESS:PORT"}},
		{ModeServer, "{\"users\": [{\"name\": \"a\", \"psk\": \"b\"}]}", nil, []string{"test.conf:1", "users", "psk"}},
	} {
		_, err := parse(tt.mode, tt.file, tt.args...)
		if err == nil {
			t.Errorf("%s %q %q: accepted", tt.mode, tt.file, tt.args)
			continue
		}
		if exitCode(err) != ExitUsage {
			t.Errorf("%q: exit code %d", err, exitCode(err))
		}
		for _, w := range tt.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s %q %q: message %q does not contain %q", tt.mode, tt.file, tt.args, err, w)
			}
		}
	}
}

func TestConfigMessagesHideKeys(t *testing.T) {
	for _, args := range [][]string{{"--auth-key", "SECRET key"}, {"-s", "h", "--user", "a:SECRET key"}} {
		mode := ModeClient
		if args[0] == "-s" {
			mode, args = ModeServer, args[2:]
		}
		if _, err := parse(mode, "", args...); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// TestOptionsAreComplete: each option has its three names, each of them once.
func TestOptionsAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range options {
		for _, name := range []string{"--" + o.flag, iniName(o.section, o.key), "json " + o.json} {
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
		if o.flag == "" || o.key == "" || o.json == "" || o.sides == 0 || o.usage == "" || o.set == nil || o.list != (o.reset != nil) {
			t.Errorf("--%s is not complete", o.flag)
		}
	}
}

func TestUsageListsAll(t *testing.T) {
	for _, mode := range []Mode{ModeClient, ModeServer} {
		var out, errOut bytes.Buffer
		if code := Main(t.Context(), mode, []string{"--help"}, &out, &errOut); code != 0 {
			t.Fatalf("--help exits with %d: %s", code, &errOut)
		}
		for _, o := range options {
			if has := strings.Contains(out.String(), "--"+o.flag+" "); has != (o.sides&mode.side() != 0) {
				t.Errorf("%s --help: --%s there: %v", mode.program(), o.flag, has)
			}
		}
		for _, m := range exitMeanings {
			if !strings.Contains(out.String(), fmt.Sprintf("  %2d  %s\n", m.code, m.text)) {
				t.Errorf("%s --help: exit code %d is missing", mode.program(), m.code)
			}
		}
		for line := range strings.Lines(out.String()) {
			if !strings.HasPrefix(line, "  mqvpn-") || strings.Contains(line, "COMMAND") || strings.Contains(line, "[flags]") {
				continue
			}
			args := strings.Fields(strings.NewReplacer("SHA256", pinHex).Replace(line))[1:]
			if _, err := parseArgs(mode, args); err != nil {
				t.Errorf("example %q: %v", line, err)
			}
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add("[Server]\nAddress = h:1 # x\n[Auth]\nKey = \"k\"\n")
	f.Add(`{"server_addr": ["h"], "users": [{"name":"a","key":"b"}], "mtu": 1300, "insecure": true}`)
	f.Fuzz(func(t *testing.T, text string) {
		settings, err := parseConfig("f", []byte(text))
		if err == nil {
			newConfig(ModeClient, settings, nil)
			newConfig(ModeServer, settings, nil)
		}
	})
}
