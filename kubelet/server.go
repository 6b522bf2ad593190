package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// serve is the kubelet's own API on port 10250:
//
//	GET  /healthz                                  ok
//	GET  /pods                                     the pods of this node, as a PodList
//	GET  /runningpods/                             those of their containers which run, as a PodList
//	GET  /metrics                                  what the kubelet did: pods and containers started, how long it took
//	GET  /metrics/probes                           probes, by container and result
//	GET  /metrics/resource                         what node, pods and containers use, for metrics-server
//	GET  /stats/summary                            the same and more, as JSON
//	GET  /logs/                                    the folder /var/log of the node
//	GET  /containerLogs/NAMESPACE/POD/CONTAINER    logs
//	POST /exec/NAMESPACE/POD/CONTAINER             a command in a container
//	POST /attach/NAMESPACE/POD/CONTAINER           a container's own standard streams
//	POST /portForward/NAMESPACE/POD                connections to a pod's ports
//
// The API server passes kubectl logs, exec, attach, cp and port-forward on to here.
func (k *Kubelet) serve(ctx context.Context) error {
	config, err := k.tlsConfig()
	if err != nil {
		return err
	}
	var listening net.ListenConfig
	address := net.JoinHostPort(k.cfg.Address, strconv.Itoa(k.cfg.Port))
	listener, err := listening.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen for the kubelet API: %w", err)
	}
	server := &http.Server{
		Handler: k.authorized(k.routes()), ReadHeaderTimeout: 30 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	slog.Info("Kubelet API is listening", "address", listener.Addr().String())
	if err := server.Serve(tls.NewListener(listener, config)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the kubelet API: %w", err)
	}
	return nil
}

// tlsConfig asks for a client certificate and does not insist: a bearer token is as good. HTTP/1.1
// only, since SPDY and WebSocket streams take over the connection.
func (k *Kubelet) tlsConfig() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(k.cfg.TLSCertFile, k.cfg.TLSKeyFile)
	if err != nil {
		return nil, fmt.Errorf("load certificate of the kubelet API: %w", err)
	}
	pem, err := os.ReadFile(k.cfg.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("load client CA of the kubelet API: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("load client CA of the kubelet API: no certificate in %s", k.cfg.ClientCAFile)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{certificate}, ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven,
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
	}, nil
}

func (k *Kubelet) routes() http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/healthz", "/healthz/ping", "/healthz/log", "/healthz/syncloop"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })
	}
	mux.HandleFunc("GET /pods", k.servePods)
	mux.HandleFunc("GET /runningpods/", k.serveRunningPods)
	mux.Handle("GET /metrics", serveCounts(k.counts.own))
	mux.Handle("GET /metrics/probes", serveCounts(k.counts.probing))
	mux.HandleFunc("GET /metrics/resource", k.serveResourceMetrics)
	mux.HandleFunc("GET /stats/summary", k.serveSummary)
	mux.Handle("GET /logs/", http.StripPrefix("/logs/", http.FileServer(http.Dir("/var/log"))))
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", k.serveLogs)
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", k.serveExec)
	mux.HandleFunc("/attach/{namespace}/{pod}/{container}", k.serveAttach)
	mux.HandleFunc("/portForward/{namespace}/{pod}", k.servePortForward)
	return mux
}

// subresource of nodes is which right a request needs: somebody may read figures who may not run commands.
func subresource(r *http.Request) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch first {
	case "metrics", "stats":
		return first
	case "logs":
		return "log"
	default:
		return "proxy"
	}
}

// authorized lets through whoever the API server knows and lets act on that subresource of the node.
func (k *Kubelet) authorized(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, ok, err := k.authenticate(r)
		if err != nil {
			slog.Warn("Asking the API server who calls", "error", err)
			http.Error(w, "Internal Server Error", http.StatusInternalServerError)
			return
		}
		if !ok {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		allowed, err := k.allowed(r, user)
		if err != nil {
			slog.Warn("Asking the API server for permission", "user", user.Username, "error", err)
			http.Error(w, "Internal Server Error", http.StatusInternalServerError)
			return
		}
		if !allowed {
			http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=[%s])", user.Username, verb(r), subresource(r)), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (k *Kubelet) authenticate(r *http.Request) (authenticationv1.UserInfo, bool, error) {
	if len(r.TLS.VerifiedChains) > 0 {
		subject := r.TLS.VerifiedChains[0][0].Subject
		return authenticationv1.UserInfo{Username: subject.CommonName, Groups: append(subject.Organization, "system:authenticated")}, true, nil
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return authenticationv1.UserInfo{}, false, nil
	}
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	answer, err := k.client.AuthenticationV1().TokenReviews().Create(r.Context(), review, metav1.CreateOptions{})
	if err != nil {
		return authenticationv1.UserInfo{}, false, err
	}
	return answer.Status.User, answer.Status.Authenticated, nil
}

func verb(r *http.Request) string {
	switch r.Method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodDelete:
		return "delete"
	default:
		return "get"
	}
}

func (k *Kubelet) allowed(r *http.Request, user authenticationv1.UserInfo) (bool, error) {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, Groups: user.Groups, UID: user.UID,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: verb(r), Version: "v1", Resource: "nodes", Subresource: subresource(r), Name: k.cfg.NodeName,
		},
	}}
	answer, err := k.client.AuthorizationV1().SubjectAccessReviews().Create(r.Context(), review, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return answer.Status.Allowed, nil
}

func (k *Kubelet) servePods(w http.ResponseWriter, _ *http.Request) {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
	k.mu.Lock()
	for _, worker := range k.workers {
		worker.mu.Lock()
		pod := worker.pod.DeepCopy()
		if worker.published {
			pod.Status = *worker.status.DeepCopy()
		}
		worker.mu.Unlock()
		list.Items = append(list.Items, *pod)
	}
	k.mu.Unlock()
	answerPods(w, list)
}

// serveRunningPods tells of what runs, whatever the API server knows of it: names and images, no more.
func (k *Kubelet) serveRunningPods(w http.ResponseWriter, _ *http.Request) {
	list := corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: []corev1.Pod{}}
	k.mu.Lock()
	for _, worker := range k.workers {
		worker.mu.Lock()
		pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: worker.pod.Name, Namespace: worker.pod.Namespace, UID: worker.uid}}
		for _, c := range everyContainer(worker.pod) {
			if have := worker.containers[c.Name]; have != nil && have.running {
				pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: c.Name, Image: have.record.ImageID})
			}
		}
		worker.mu.Unlock()
		if len(pod.Spec.Containers) > 0 {
			list.Items = append(list.Items, pod)
		}
	}
	k.mu.Unlock()
	answerPods(w, list)
}

func answerPods(w http.ResponseWriter, list corev1.PodList) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(list); err != nil {
		slog.Debug("Writing pod list", "error", err)
	}
}

// errNoContainer answers a request for something that this node does not run.
type errNoContainer struct{ message string }

func (e errNoContainer) Error() string { return e.message }

// runningID finds a container which runs.
func (k *Kubelet) runningID(r *http.Request) (string, error) {
	namespace, pod, name := r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")
	w := k.worker(namespace, pod)
	if w == nil {
		return "", errNoContainer{fmt.Sprintf("pod %q not found in namespace %q", pod, namespace)}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	have := w.containers[name]
	if have == nil || !have.running {
		return "", errNoContainer{fmt.Sprintf("container not found (%q)", name)}
	}
	return have.record.ID, nil
}
