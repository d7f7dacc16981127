package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"sluice/configs"
	"sluice/gateway/ops"
	"sluice/internal/tlsfile"
)

// client speaks to the ops listener of a running server. Offers and orders belong to the server; the commands that show
// or change them go through it and never open its files.
type client struct {
	base, token string
	dir         string // the data directory whose configuration named both
	http        http.Client
}

// newClient reaches the server that the configuration describes.
func newClient(s *settings) (*client, error) {
	c, _, err := s.load()
	if err != nil {
		return nil, err
	}
	secrets, err := loadSecrets(c)
	if err != nil {
		return nil, err
	}
	cl, err := opsClient(c, secrets)
	if err == nil {
		cl.http.Timeout = 30 * time.Second
	}
	return cl, err
}

// opsClient speaks to the ops listener that a configuration describes, in TLS if that does: then the listener must show the
// certificate that the configuration names. The key is not needed.
func opsClient(c *configs.Config, secrets *configs.Secrets) (*client, error) {
	cl := &client{base: address(c.Ops.TLS.On(), reachable(c.Ops.Listen)), token: secrets.OpsToken, dir: c.DataDir}
	known, err := c.Ops.TLS.Known()
	if err != nil {
		return nil, fmt.Errorf("ops.tls.certificate_file: %w", err)
	}
	if known != nil {
		cl.http.Transport = &http.Transport{TLSClientConfig: known}
	}
	return cl, nil
}

// answers tells whether a server listens there.
func (c *client) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/healthz", nil)
	if err != nil {
		return false
	}
	res, err := c.http.Do(req)
	if err != nil {
		return false
	}
	return res.Body.Close() == nil && res.StatusCode == http.StatusOK
}

// serves makes sure that the server there takes our token: otherwise it is another one, or of another data directory. It tells
// the server's role.
func (c *client) serves(ctx context.Context) (role, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var stats struct{ Role role }
	err := c.get(ctx, "/ops/stats", &stats)
	return stats.Role, err
}

// reachable is an address to dial for one to listen on.
func reachable(listen string) string {
	host, port, _ := net.SplitHostPort(listen) // validated with the configuration
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// call sends body, if it is not nil, and returns the answer's body. A problem document becomes the error.
func (c *client) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	res, err := c.send(ctx, &c.http, method, path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Close() }()
	answer, err := io.ReadAll(res)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return answer, nil
}

// stream posts a body that may take any time, and returns the answer's while it is sent. The caller closes it.
func (c *client) stream(ctx context.Context, path string, body io.Reader) (io.ReadCloser, error) {
	return c.send(ctx, &http.Client{Transport: c.http.Transport}, http.MethodPost, path, body)
}

func (c *client) send(ctx context.Context, h *http.Client, method, path string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	res, err := h.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("no server answers on the ops listener %s: start one with `sluice serve`, "+
			"or name the right one with -c or --set ops.listen=HOST:PORT", c.base)
	}
	if err != nil {
		return nil, c.explain(err)
	}
	if res.StatusCode < 300 {
		return res.Body, nil
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	var p ops.Problem
	if err := json.Unmarshal(answer, &p); err != nil || p.Code == "" {
		return nil, fmt.Errorf("%s %s: %s", method, path, res.Status)
	}
	if p.Code == "unauthenticated" {
		return nil, fmt.Errorf("the server at %s does not take the ops token of data directory %s (is it another server?): "+
			"name its configuration with -c, its directory with --set data_dir=DIR, or the right address with --set ops.listen=HOST:PORT", c.base, c.dir)
	}
	return nil, &p
}

// explain says what to do about a listener that is not the one of the configuration.
func (c *client) explain(err error) error {
	if strings.HasPrefix(c.base, "http:") {
		return err
	}
	if told := tlsfile.Explain(err, "ops.tls", true); told != nil {
		return fmt.Errorf("%s does not show the certificate of ops.tls.certificate_file: name the server's own configuration with -c, or its "+
			"present certificate (%w)", c.base, err)
	}
	return err
}

// memory is what the server says of its resident memory, in bytes.
func (c *client) memory(ctx context.Context) (int64, error) {
	var stats struct {
		Resident int64 `json:"resident_bytes"`
	}
	err := c.get(ctx, "/ops/stats", &stats)
	return stats.Resident, err
}

// get is call for a JSON answer.
func (c *client) get(ctx context.Context, path string, into any) error {
	b, err := c.call(ctx, http.MethodGet, path, nil)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	return err
}
