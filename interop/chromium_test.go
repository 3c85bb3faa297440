// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// page fetches two files and writes down what came.
const page = `<!DOCTYPE html><title>mqvpn</title><p id="out"></p><script>
(async () => {
	let text = "";
	for (const name of [%q, %q]) {
		const body = await (await fetch("/" + name)).arrayBuffer();
		const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
		text += name + " " + Array.from(sum, b => b.toString(16).padStart(2, "0")).join("") + "\n";
	}
	const rsp = await fetch("/no-such-file");
	document.getElementById("out").textContent = text + "status " + rsp.status;
})();
</script>`

// TestChromium: a browser loads a page and what its script asks for from our HTTP/3 server.
func TestChromium(t *testing.T) {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed")
	}
	dir := t.TempDir()
	www, certs := filepath.Join(dir, "www"), filepath.Join(dir, "certs")
	for _, d := range []string{www, certs} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeCert(t, certs, []string{"localhost"})
	large := make([]byte, 300*kB)
	for i := range large {
		large[i] = byte(i * i >> 8)
	}
	writeFile(t, filepath.Join(www, "index.html"), fmt.Appendf(nil, page, "small", "large"))
	writeFile(t, filepath.Join(www, "small"), large[:100])
	writeFile(t, filepath.Join(www, "large"), large)

	server := start(t, asPeer("mqvpn", "server", "http3", dir, envListen+"=127.0.0.1:0"))
	address, err := server.address()
	if err != nil {
		t.Fatal(err)
	}
	origin := net.JoinHostPort("localhost", fmt.Sprint(address.Port()))
	browser := start(t, exec.Command(chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
		"--user-data-dir="+filepath.Join(dir, "profile"),
		"--host-resolver-rules=MAP localhost 127.0.0.1",
		"--origin-to-force-quic-on="+origin,
		"--ignore-certificate-errors-spki-list="+spkiHash(t, certs),
		"--timeout=20000", "--virtual-time-budget=10000",
		"--dump-dom", "https://"+origin+"/index.html"))
	code := browser.wait(60 * time.Second)
	dom := browser.log()
	want := fmt.Sprintf("small %x\nlarge %x\nstatus 404", sha256.Sum256(large[:100]), sha256.Sum256(large))
	if code != 0 || !strings.Contains(dom, want) {
		t.Errorf("exit code %d; want %q\n%s", code, want, dom)
	}
	server.stop()
	if log := server.log(); !strings.Contains(log, "connection: h3") || t.Failed() {
		t.Errorf("the server's log:\n%s", log)
	}
}

// spkiHash names the public key of a certificate as the browser wants it.
func spkiHash(t *testing.T, certs string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(certs, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:])
}
