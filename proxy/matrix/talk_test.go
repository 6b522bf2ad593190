package matrix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podarium/podarium/internal/netns"
)

// Servers answer "NAME saw CLIENT", on the port most rows use, and with their
// port on a second one.
const (
	mainPort   = 8080
	secondPort = 9090
)

// serve starts the servers of a host.
func serve(t *testing.T, path, name, ip string, ports ...int) {
	t.Helper()
	for _, port := range ports {
		who := name
		if port == secondPort {
			who = fmt.Sprintf("%s:%d", name, port)
		}
		address := net.JoinHostPort(ip, strconv.Itoa(port))
		listener, err := netns.Listen(t.Context(), path, address)
		if err != nil {
			t.Fatal(err)
		}
		var packets net.PacketConn
		err = netns.Do(path, func() error {
			packets, err = net.ListenPacket("udp", address)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close(); packets.Close() })
		go serveTCP(listener, who)
		go serveUDP(packets, who)
	}
}

func answer(who string, client net.Addr) string {
	address := netip.MustParseAddrPort(client.String()).Addr().String()
	for owned, name := range owners {
		if address == owned || address == ipv6.of(owned) {
			return who + " saw " + name
		}
	}
	return who + " saw " + address
}

func serveTCP(listener net.Listener, who string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		fmt.Fprint(conn, answer(who, conn.RemoteAddr()))
		conn.Close()
	}
}

func serveUDP(packets net.PacketConn, who string) {
	buffer := make([]byte, 1500)
	for {
		_, client, err := packets.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = packets.WriteTo([]byte(answer(who, client)), client) // lost, as packets are
		}
	}
}

// patience is how long an answer may take; silence, how long none must come
// for it to be called "no answer".
const (
	patience = 20 * time.Second
	silence  = time.Second
)

// ask asks once, over a connection of its own, from inside the namespace at
// path: to is "tcp 10.96.0.20:80". It returns the answer, "refused", "no
// answer" or "unreachable".
func ask(path, to string, wait time.Duration) string {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	protocol, address, _ := strings.Cut(to, " ")
	var heard string
	var err error
	switch protocol {
	case "tcp":
		heard, err = askTCP(ctx, path, address)
	case "udp":
		heard, err = askUDP(ctx, path, address)
	case "sctp":
		heard, err = askSCTP(ctx, path, address)
	case "http":
		heard, err = askHTTP(ctx, path, address)
	default:
		err = fmt.Errorf("protocol %q is not known to this test", protocol)
	}
	var timeout net.Error
	switch {
	case err == nil:
		return heard
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer"
	}
	return err.Error()
}

func askTCP(ctx context.Context, path, address string) (string, error) {
	conn, err := netns.Dial(ctx, path, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	heard, err := io.ReadAll(conn)
	return string(heard), err
}

// askHTTP asks a health check node port; the answer is its code and how many
// endpoints are local.
func askHTTP(ctx context.Context, path, address string) (string, error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return netns.Dial(ctx, path, network, address)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	return fmt.Sprintf("%d, %s local", response.StatusCode, response.Header.Get("X-Load-Balancing-Endpoint-Weight")), nil
}

// askUDP asks again every second, for a packet may get lost. One that a rule of
// the asker's own host refuses fails as "not permitted"; what was refused and
// what only dropped is told by the ICMP message which follows, or not.
func askUDP(ctx context.Context, path, address string) (string, error) {
	conn, err := netns.Dial(ctx, path, "udp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	buffer := make([]byte, 1500)
	for {
		if _, err := conn.Write([]byte("who?")); err != nil && !errors.Is(err, syscall.EPERM) {
			return "", err
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return "", err
		}
		n, err := conn.Read(buffer)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return string(buffer[:n]), err
		}
	}
}
