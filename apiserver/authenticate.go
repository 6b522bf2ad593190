package apiserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/podarium/podarium/apiserver/auth"
)

var errUnauthorized = errors.New("no valid credentials")

// authenticate finds the user of a request: by bearer token when there is one,
// else by client certificate, which TLS has verified already.
func (s *Server) authenticate(r *http.Request) (*auth.User, error) {
	if header := r.Header.Get("Authorization"); header != "" {
		token, ok := strings.CutPrefix(header, "Bearer ")
		if !ok {
			return nil, errUnauthorized
		}
		return s.userOfToken(r.Context(), strings.TrimSpace(token))
	}
	if token, ok := webSocketToken(r); ok {
		return s.userOfToken(r.Context(), token)
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return auth.FromCertificate(r.TLS.VerifiedChains[0][0]), nil
	}
	return auth.AnonymousUser(), nil
}

func (s *Server) userOfToken(_ context.Context, token string) (*auth.User, error) {
	if s.cfg.EnableBootstrapTokens && auth.LooksLikeBootstrapToken(token) {
		return auth.CheckBootstrapToken(token, s.store, time.Now())
	}
	user, _, err := s.tokens.Check(token, nil)
	if err != nil {
		slog.Debug("token refused", "err", err)
	}
	return user, err
}

// impersonate lets those who may act as somebody else: `kubectl --as bob`.
func (s *Server) impersonate(r *request, user *auth.User) (*auth.User, error) {
	name, groups := r.Header.Get("Impersonate-User"), r.Header.Values("Impersonate-Group")
	extra := map[string][]string{}
	for key, values := range r.Header {
		if name, ok := strings.CutPrefix(strings.ToLower(key), "impersonate-extra-"); ok {
			if unescaped, err := url.PathUnescape(name); err == nil {
				name = unescaped
			}
			extra[name] = values
		}
	}
	if name == "" {
		if len(groups) > 0 || len(extra) > 0 {
			return nil, badRequest("requested %#v without impersonating a user name", &impersonated{Groups: groups})
		}
		return user, nil
	}
	as := &auth.User{Name: name, Groups: groups, Extra: extra, UID: r.Header.Get("Impersonate-Uid")}
	for _, check := range impersonationChecks(user, as) {
		if ok, reason := s.authorizer.Allowed(&check); !ok {
			return nil, forbidden(&check, reason)
		}
	}
	if namespace, _, ok := auth.LooksLikeServiceAccount(name); ok && len(groups) == 0 {
		as.Groups = []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace}
	}
	if name != auth.Anonymous && !as.In(auth.GroupAuthenticated) {
		as.Groups = append(as.Groups, auth.GroupAuthenticated)
	}
	return as, nil
}

// impersonated exists for the text of one error.
type impersonated struct {
	Name, UID string
	Groups    []string
	Extra     map[string][]string
}

func (i *impersonated) GoString() string {
	return fmt.Sprintf("&user.DefaultInfo{Name:%q, UID:%q, Groups:%#v, Extra:map[string][]string(nil)}", i.Name, i.UID, i.Groups)
}

// impersonationChecks: acting as somebody needs the verb impersonate on the
// user, and on every group.
func impersonationChecks(user, as *auth.User) []auth.Attributes {
	var checks []auth.Attributes
	if namespace, name, ok := auth.LooksLikeServiceAccount(as.Name); ok {
		checks = append(checks, auth.Attributes{User: user, Verb: "impersonate", Resource: "serviceaccounts", Namespace: namespace, Name: name})
	} else {
		checks = append(checks, auth.Attributes{User: user, Verb: "impersonate", Resource: "users", Name: as.Name})
	}
	for _, group := range as.Groups {
		checks = append(checks, auth.Attributes{User: user, Verb: "impersonate", Resource: "groups", Name: group})
	}
	if as.UID != "" {
		checks = append(checks, auth.Attributes{User: user, Verb: "impersonate", Group: "authentication.k8s.io", Resource: "uids", Name: as.UID})
	}
	for key := range as.Extra {
		checks = append(checks, auth.Attributes{User: user, Verb: "impersonate", Group: "authentication.k8s.io", Resource: "userextras/" + key})
	}
	return checks
}

// webSocketToken: a browser cannot set headers on a WebSocket, so the token may
// come as a subprotocol, base64 encoded.
func webSocketToken(r *http.Request) (string, bool) {
	const prefix = "base64url.bearer.authorization.k8s.io."
	for p := range strings.SplitSeq(r.Header.Get("Sec-Websocket-Protocol"), ",") {
		if encoded, ok := strings.CutPrefix(strings.TrimSpace(p), prefix); ok {
			return decodeBase64URL(encoded)
		}
	}
	return "", false
}

func unauthorized() error { return apierrors.NewUnauthorized("Unauthorized") }
