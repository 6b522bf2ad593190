// Command simpleservice is the example server behind the Services of the
// examples: it tells who answers and who it thinks is asking, so that load
// balancing, session affinity and source addresses can be seen and counted.
//
//	/info      {"host": "simpleservice", "version": "0.5.0", "from": "10.244.1.3"}
//	/hostname  the pod's name
//	/clientip  the address the connection comes from
//	/health    200, or 503 while /health is set to fail: POST /health?fail=true
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// version is what /info tells.
const version = "0.5.0"

func main() {
	hostname, err := os.Hostname()
	if err != nil {
		log.Fatalf("read host name: %v", err)
	}
	server := &http.Server{Addr: ":" + port(), Handler: handler(hostname), ReadHeaderTimeout: 10 * time.Second}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT) // PID 1 of a container gets no default action
	go func() { <-signals; server.Close() }()
	log.Printf("%s listens on %s", hostname, server.Addr)
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
}

// port is $PORT, or 9876.
func port() string {
	if p, err := strconv.ParseUint(os.Getenv("PORT"), 10, 16); err == nil && p > 0 {
		return strconv.FormatUint(p, 10)
	}
	return "9876"
}

func handler(hostname string) http.Handler {
	var failing atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("GET /info", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, "{\"host\": %s, \"version\": %s, \"from\": %s}\n", quote(r.Host), quote(version), quote(client(r)))
	})
	mux.HandleFunc("GET /hostname", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, hostname) })
	mux.HandleFunc("GET /clientip", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, client(r)) })
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		if failing.Load() {
			http.Error(w, "told to fail", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "healthy")
	})
	mux.HandleFunc("POST /health", func(_ http.ResponseWriter, r *http.Request) { failing.Store(r.URL.Query().Get("fail") == "true") })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "Hello from %s\n", hostname) })
	return mux
}

func client(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func quote(s string) string {
	quoted, err := json.Marshal(s)
	if err != nil {
		return `""`
	}
	return string(quoted)
}
