// Package kube makes API clients the one way all components make them.
//
// Components meet only through the API server, so what a component knows of
// the cluster is: a kubeconfig, a client, watches. This package turns the
// first into the second, with the same settings everywhere: protobuf on the
// wire (JSON for what has none), no client-side rate limit (the cluster is
// small and a limit of 5 requests a second, client-go's default, would be
// what `podarium up` waits for), and a User-Agent a learner can find in the
// API server's log.
package kube

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/klog/v2"
)

// The version Podarium reports: the Kubernetes API it serves, with its own
// build metadata (semver.org §10). kubectl compares major and minor.
const (
	Version      = "v1.37.0+podarium"
	VersionMajor = "1"
	VersionMinor = "37"
)

const (
	protobuf = "application/vnd.kubernetes.protobuf"
	json     = "application/json"
)

// Config reads a kubeconfig file; an empty path means the ServiceAccount the
// pod runs with (KUBERNETES_SERVICE_HOST and the mounted token). component
// names the caller in the User-Agent, e.g. "kube-proxy".
func Config(kubeconfig, component string) (*rest.Config, error) {
	var cfg *rest.Config
	var err error
	if kubeconfig == "" {
		cfg, err = rest.InClusterConfig()
	} else {
		cfg, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %q: %w", kubeconfig, err)
	}
	cfg.UserAgent = component + "/" + Version
	cfg.ContentType = protobuf
	cfg.AcceptContentTypes = protobuf + "," + json
	cfg.WarningHandler = rest.NoWarnings{} // they are for people; a component cannot help writing Endpoints
	cfg.RateLimiter = flowcontrol.NewFakeAlwaysRateLimiter()
	return cfg, nil
}

// Client is Config and a typed client on it.
func Client(kubeconfig, component string) (kubernetes.Interface, error) {
	cfg, err := Config(kubeconfig, component)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make client for %s: %w", component, err)
	}
	return client, nil
}

// SetupLogging sends log/slog and klog (which client-go writes to) to out,
// Info and above, or Debug with verbosity 4 and more: upstream's -v
// levels, of which two are kept, what changed in the cluster and why.
func SetupLogging(out io.Writer, component string, verbosity int) {
	level := slog.LevelInfo
	if verbosity >= 4 {
		level = slog.LevelDebug
	}
	handler := slog.NewTextHandler(out, &slog.HandlerOptions{Level: level})
	logger := slog.New(handler).With("component", component)
	slog.SetDefault(logger)
	klog.SetLoggerWithOptions(logr.FromSlogHandler(quiet{logger.Handler()}), klog.ContextualLogger(true))
}

// quiet lets client-go's warnings and errors pass and turns its Info lines,
// which tell of reflectors and caches and not of the cluster, into Debug.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	if level == slog.LevelInfo {
		level = slog.LevelDebug
	}
	return q.Handler.Enabled(ctx, level)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }
func (q quiet) WithGroup(name string) slog.Handler       { return quiet{q.Handler.WithGroup(name)} }

// WaitReady blocks until the API server answers /readyz. Components are
// started beside it, not after it, so the first tries are expected to find
// nobody: they are 50 ms apart at first and 1 s at most. (A client-go informer
// that finds nobody waits 800 ms and more before it tries again.)
func WaitReady(ctx context.Context, client kubernetes.Interface) error {
	delay := 50 * time.Millisecond
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(attempt).Error()
		cancel()
		if err == nil {
			return nil
		}
		slog.Debug("api server not ready", "err", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the api server: %w (last answer: %w)", ctx.Err(), err)
		case <-time.After(delay):
		}
		delay = min(delay*3/2, time.Second)
	}
}
