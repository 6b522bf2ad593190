// Package netns works inside another network namespace without the traps Go
// sets there.
//
// A network namespace belongs to an OS thread, and Go moves goroutines between
// threads: a goroutine started inside a switched section, or an http.Client
// used there, runs in whatever namespace its thread has. So exactly two things
// are offered. Do runs a function on a thread of its own which is thrown away
// afterwards (restoring a thread's namespace can fail, a thread that ends
// cannot leak it). Dial makes one connection inside: a socket stays in the
// namespace where it was made, wherever its owner goes.
package netns

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Do runs fn on a fresh thread inside the namespace at path, for example
// /proc/1234/ns/net or /run/netns/pod-1, and returns fn's error. fn must not
// start goroutines that are meant to stay inside.
func Do(path string, fn func() error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer file.Close()
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter network namespace %s: %w", path, err)
			return
		}
		result <- fn()
	}()
	return <-result
}

// Dial connects from inside the namespace at path. address is an IP and a
// port: resolving a name would start goroutines, which are outside again.
func Dial(ctx context.Context, path, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := Do(path, func() error {
		dialer := net.Dialer{FallbackDelay: -1} // no second goroutine for the other IP family
		var err error
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen opens a TCP listener inside the namespace at path.
func Listen(ctx context.Context, path, address string) (net.Listener, error) {
	var listener net.Listener
	err := Do(path, func() error {
		var config net.ListenConfig
		var err error
		listener, err = config.Listen(ctx, "tcp", address)
		return err
	})
	return listener, err
}
