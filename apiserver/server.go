package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/podarium/podarium/apiserver/auth"
	"github.com/podarium/podarium/apiserver/clusterip"
	"github.com/podarium/podarium/apiserver/nodeport"
	"github.com/podarium/podarium/apiserver/resource"
	"github.com/podarium/podarium/apiserver/store"
)

// Server answers the Kubernetes API from one store.
type Server struct {
	cfg        Config
	store      *store.Store
	openapi    documents
	authorizer *auth.Authorizer
	tokens     *auth.Tokens
	managers   fieldManagers
	metrics    *metrics
	running    sync.WaitGroup
	kubelets   *http.Transport
	auditLog   *auditLog
	backends   *http.Transport // pods and Services, for the subresource proxy
	kinds      kindIndex
	serviceIPs clusterip.Range
	nodePorts  nodeport.Range
	stopping   chan struct{} // closed when watches have to end
	ready      chan struct{} // closed when the server's own objects are there
}

// Run serves until ctx is done. It starts etcd within this process unless
// cfg names another one, and makes the objects every cluster begins with.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	tlsConfig, err := cfg.serverTLS()
	if err != nil {
		return err
	}
	st, closeStore, failed, err := openStore(ctx, &cfg)
	if err != nil {
		return err
	}
	defer closeStore()
	s, err := newServer(cfg, st)
	if err != nil {
		return err
	}
	defer s.auditLog.close()
	listeners, err := s.listen()
	if err != nil {
		return err
	}
	return s.serve(ctx, listeners, tlsConfig, failed)
}

// openStore starts etcd when it is to be within this process, and connects to
// it. The client is closed before the server.
func openStore(ctx context.Context, cfg *Config) (st *store.Store, closeAll func(), failed <-chan error, err error) {
	codec := newStorageCodec(cfg.StorageMediaType)
	sc, err := cfg.storeConfig(codec.prefixes(), codec)
	if err != nil {
		return nil, nil, nil, err
	}
	closeEtcd := func() {}
	if len(cfg.EtcdServers) == 0 {
		started := time.Now()
		if sc.Embedded, err = store.StartEmbedded(cfg.DataDir); err != nil {
			return nil, nil, nil, err
		}
		slog.Info("etcd runs in this process", "dir", cfg.DataDir, "endpoint", sc.Embedded.Endpoint(), "took", time.Since(started))
		closeEtcd, failed = sc.Embedded.Close, sc.Embedded.Failed()
	}
	if st, err = store.Open(ctx, sc); err != nil {
		closeEtcd()
		return nil, nil, nil, err
	}
	return st, func() { st.Close(); closeEtcd() }, failed, nil
}

func newServer(cfg Config, st *store.Store) (*Server, error) {
	authorizer, err := auth.NewAuthorizer(st)
	if err != nil {
		return nil, err
	}
	tokens, err := auth.NewTokens(cfg.ServiceAccountIssuer, cfg.ServiceAccountSigningKeyFile, cfg.ServiceAccountKeyFiles, st)
	if err != nil {
		return nil, err
	}
	kubelets, err := cfg.kubeletTransport()
	if err != nil {
		return nil, err
	}
	auditLog, err := openAuditLog(cfg.AuditLog)
	if err != nil {
		return nil, err
	}
	return &Server{
		auditLog: auditLog, metrics: newMetrics(st), authorizer: authorizer, tokens: tokens, kubelets: kubelets, backends: newBackendTransport(),
		cfg: cfg, store: st, kinds: newKindIndex(),
		serviceIPs: clusterip.NewRange(cfg.ServiceClusterIPRange), nodePorts: nodeport.Range{First: cfg.NodePortMin, Last: cfg.NodePortMax},
		stopping: make(chan struct{}), ready: make(chan struct{}),
	}, nil
}

func (s *Server) listen() ([]net.Listener, error) {
	addr := net.JoinHostPort(s.cfg.BindAddress, strconv.Itoa(s.cfg.SecurePort))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	if s.cfg.Listening != nil {
		s.cfg.Listening(l.Addr())
	}
	return append([]net.Listener{l}, s.cfg.ExtraListeners...), nil
}

// shutdownTime is how long running requests get when the server ends.
const shutdownTime = 5 * time.Second

func (s *Server) serve(ctx context.Context, listeners []net.Listener, tlsConfig *tls.Config, failed <-chan error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server := &http.Server{
		Handler: s, TLSConfig: tlsConfig,
		ReadHeaderTimeout: orDefault(s.cfg.HeaderTimeout, defaultHeaderTimeout), IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 1 << 20,
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	errs := make(chan error, len(listeners)+1)
	for _, l := range listeners {
		slog.Info("serving the API", "address", l.Addr().String())
		go func() { errs <- server.ServeTLS(l, "", "") }()
	}
	var background sync.WaitGroup
	background.Go(func() {
		if err := s.bootstrap(ctx); err != nil && ctx.Err() == nil {
			errs <- fmt.Errorf("make the cluster's first objects: %w", err)
			return
		}
		debug.FreeOSMemory() // the start needed some 20 MB that nothing needs any more
		close(s.ready)
		s.keepKubernetesService(ctx)
	})
	var err error
	select {
	case <-ctx.Done():
	case err = <-errs:
	case err = <-failed:
		err = fmt.Errorf("etcd stopped: %w", err)
	}
	close(s.stopping)
	cancel()
	s.drain(server)
	background.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// drain lets running requests end, watches among them, and then closes the
// connections. Shutdown alone would wait a second for every idle HTTP/2 client.
func (s *Server) drain(server *http.Server) {
	idle := make(chan struct{})
	go func() {
		s.running.Wait()
		close(idle)
	}()
	select {
	case <-idle:
	case <-time.After(shutdownTime):
	}
	end, stop := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer stop()
	if server.Shutdown(end) != nil {
		server.Close()
	}
}

// ServeHTTP is the life of a request; see the package comment.
func (s *Server) ServeHTTP(w http.ResponseWriter, httpRequest *http.Request) {
	s.running.Add(1)
	defer s.running.Done()
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // what was panicked with, as net/http compares it
			slog.Error("request panicked", "method", httpRequest.Method, "path", httpRequest.URL.Path, "panic", p, "stack", string(debug.Stack()))
			s.fail(w, httpRequest, apierrors.NewInternalError(errPanic))
		}
	}()
	r := &request{Request: httpRequest, target: parseTarget(httpRequest)}
	r.kind = s.kinds[r.gvr()]
	done, reached := s.metrics.observe(r), s.auditLog.audit(w, r)
	answer := &statusWriter{ResponseWriter: w, started: func(code int) { reached(stageStarted, code) }}
	w = answer
	defer func() { done(answer.code); reached(stageComplete, answer.code) }()
	defer s.limit(w, r)()
	if err := s.identify(r); err != nil {
		s.fail(w, r.Request, err)
		return
	}
	if err := s.authorize(r); err != nil {
		s.fail(w, r.Request, err)
		return
	}
	if err := s.route(w, r); err != nil {
		s.fail(w, r.Request, err)
	}
}

var errPanic = errors.New("this request caused apiserver to panic. Look in the logs for details")

// route finds who answers: a resource's handler, or one of the few fixed paths.
func (s *Server) route(w http.ResponseWriter, r *request) error {
	if !r.isResource {
		return s.serveNonResource(w, r)
	}
	if kind, ok := reviewKinds[r.gvr()]; ok {
		return s.review(w, r, kind)
	}
	if r.gvr() == bindings {
		return s.bindNamed(w, r)
	}
	if r.kind == nil {
		if !s.groupExists(r.group) {
			plain(w, http.StatusNotFound, "404 page not found")
			return nil
		}
		return errNoSuchPath
	}
	if r.subresource != "" {
		return s.routeSubresource(w, r)
	}
	return s.routeResource(w, r)
}

func (s *Server) routeResource(w http.ResponseWriter, r *request) error {
	needsNamespace := r.kind.Namespaced && r.namespace == ""
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return nil
	}
	if r.kind.Deprecated != "" {
		addWarnings(w, []string{r.kind.Deprecated})
	}
	switch {
	case r.verb == "get" && watches(r.Request):
		return s.watch(w, r)
	case r.verb == "get" && !needsNamespace:
		return s.get(w, r)
	case r.verb == "list":
		return s.list(w, r)
	case r.verb == "watch":
		return s.watch(w, r)
	case r.verb == "create" && r.name == "" && !needsNamespace:
		return s.create(w, r)
	case r.verb == "update" && r.name != "" && !needsNamespace:
		return s.update(w, r)
	case r.verb == "patch" && r.name != "" && !needsNamespace:
		return s.patch(w, r)
	case r.verb == "delete" && !needsNamespace:
		return s.delete(w, r)
	case r.verb == "deletecollection" && !needsNamespace && r.kind != resource.Namespace:
		return s.deleteCollection(w, r)
	}
	return errMethod
}

func (s *Server) groupExists(group string) bool {
	for gvr := range s.kinds {
		if gvr.Group == group {
			return true
		}
	}
	return false
}
