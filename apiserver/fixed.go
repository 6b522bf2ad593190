package apiserver

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"runtime"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/version"

	"github.com/podarium/podarium/internal/kube"
)

// serveNonResource answers the paths that are no resources: health, version,
// discovery, OpenAPI, metrics.
func (s *Server) serveNonResource(w http.ResponseWriter, r *request) error {
	path := strings.TrimSuffix(r.path, "/")
	switch {
	case path == "/version":
		writeIndented(w, versionInfo())
	case path == "/healthz", path == "/livez", path == "/readyz",
		strings.HasPrefix(path, "/healthz/"), strings.HasPrefix(path, "/livez/"), strings.HasPrefix(path, "/readyz/"):
		s.health(w, r)
	case path == "/metrics":
		s.metrics.handler().ServeHTTP(w, r.Request)
	case path == "/api":
		return s.serveAPI(w, r)
	case path == "/apis":
		return s.serveAPIs(w, r)
	case strings.HasPrefix(path, "/api/"), strings.HasPrefix(path, "/apis/"):
		return s.serveGroup(w, r, path)
	case path == "/openapi/v2", path == "/openapi/v3", strings.HasPrefix(path, "/openapi/v3/"):
		return s.serveOpenAPI(w, r, path)
	case path == openIDConfiguration, path == openIDKeys:
		s.serveOpenID(w, path)
	case strings.HasPrefix(path, profiles) && s.cfg.Profiling:
		profile(w, r.Request)
	case path == "":
		writeIndented(w, map[string][]string{"paths": s.paths()})
	default:
		plain(w, http.StatusNotFound, "404 page not found")
	}
	return nil
}

// profiles are where the server tells what it spends time and memory on:
//
//	kubectl get --raw '/debug/pprof/profile?seconds=10' >cpu && go tool pprof -top cpu
const profiles = "/debug/pprof"

func profile(w http.ResponseWriter, r *http.Request) {
	switch strings.TrimPrefix(r.URL.Path, profiles+"/") {
	case "cmdline":
		pprof.Cmdline(w, r)
	case "profile":
		pprof.Profile(w, r)
	case "symbol":
		pprof.Symbol(w, r)
	case "trace":
		pprof.Trace(w, r)
	default: // heap, allocs, goroutine, …, and the page that lists them
		pprof.Index(w, r)
	}
}

func versionInfo() version.Info {
	return version.Info{
		Major: "1", Minor: kube.VersionMinor, GitVersion: kube.Version, GitTreeState: "clean",
		BuildDate: "1970-01-01T00:00:00Z", GoVersion: runtime.Version(), Compiler: runtime.Compiler,
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

// paths lists what there is to see, for `kubectl get --raw /`.
func (s *Server) paths() []string {
	seen := map[string]bool{
		"/api": true, "/apis": true, "/healthz": true, "/livez": true, "/readyz": true,
		"/metrics": true, "/openapi/v2": true, "/openapi/v3": true, "/version": true,
		openIDConfiguration: true, openIDKeys: true,
	}
	for gvr := range s.kinds {
		if gvr.Group == "" {
			seen["/api/v1"] = true
			continue
		}
		seen["/apis/"+gvr.Group] = true
		seen["/apis/"+gvr.Group+"/"+gvr.Version] = true
	}
	var list []string
	for p := range seen {
		list = append(list, p)
	}
	sort.Strings(list)
	return list
}

// check is one thing that has to be well.
type healthCheck struct {
	name string
	test func(r *http.Request) error
}

func (s *Server) healthChecks(path string) []healthCheck {
	checks := []healthCheck{
		{"ping", func(*http.Request) error { return nil }},
		{"etcd", func(r *http.Request) error {
			_, err := s.store.Revision(r.Context())
			return err
		}},
	}
	if strings.HasPrefix(path, "/livez") {
		return checks
	}
	return append(checks, healthCheck{"poststarthook/bootstrap-objects", func(*http.Request) error {
		select {
		case <-s.ready:
			return nil
		default:
			return fmt.Errorf("not finished")
		}
	}})
}

// health answers "ok", or what is wrong; ?verbose and one check alone
// (/livez/ping) as upstream.
func (s *Server) health(w http.ResponseWriter, r *request) {
	base, single, _ := strings.Cut(strings.TrimPrefix(r.path, "/"), "/")
	verbose := r.URL.Query().Has("verbose")
	var report strings.Builder
	failed, found := false, single == ""
	for _, c := range s.healthChecks(r.path) {
		if single != "" && c.name != single {
			continue
		}
		found = true
		if err := c.test(r.Request); err != nil {
			failed = true
			fmt.Fprintf(&report, "[-]%s failed: reason withheld\n", c.name)
			continue
		}
		fmt.Fprintf(&report, "[+]%s ok\n", c.name)
	}
	switch {
	case !found:
		plain(w, http.StatusNotFound, "404 page not found")
		return
	case failed:
		plain(w, http.StatusInternalServerError, report.String()+base+" check failed")
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache, private")
	if verbose {
		fmt.Fprintf(w, "%s%s check passed\n", report.String(), base)
		return
	}
	fmt.Fprint(w, "ok")
}
