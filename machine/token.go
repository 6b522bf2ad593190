package machine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/kubernetes"

	"github.com/podarium/podarium/internal/pki"
	"github.com/podarium/podarium/machine/components"
)

// Token is a bootstrap token, "abcdef.0123456789abcdef": an ID that may be seen,
// and a secret. The cluster keeps it as a Secret of kube-system, see
// https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/.
type Token struct {
	Value       string        // empty: a new one is drawn
	TTL         time.Duration // 0: it never expires
	Description string
	Groups      []string // empty: system:bootstrappers:kubeadm:default-node-token
	Usages      []string // empty: signing, authentication
}

const (
	tokenNamePrefix = "bootstrap-token-"
	defaultGroup    = "system:bootstrappers:kubeadm:default-node-token"
	usagePrefix     = "usage-bootstrap-"
)

var (
	tokenPattern   = regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`)
	tokenIDPattern = regexp.MustCompile(`^[a-z0-9]{6}$`)
	groupPattern   = regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`)
	tokenUsages    = []string{"signing", "authentication"}
)

func validToken(token string) error {
	if tokenPattern.MatchString(token) {
		return nil
	}
	return errors.New("a token is 6 lower-case letters and digits, a dot, and 16 more, such as abcdef.0123456789abcdef") // what was typed is a secret, nearly
}

// GenerateToken draws one that no cluster knows yet.
func GenerateToken() string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	var b strings.Builder
	random := make([]byte, 1)
	for b.Len() < 23 {
		if b.Len() == 6 {
			b.WriteByte('.')
			continue
		}
		rand.Read(random)
		if n := int(random[0]); n < 7*len(alphabet) { // the rest would make some letters likelier
			b.WriteByte(alphabet[n%len(alphabet)])
		}
	}
	return b.String()
}

// ID is the part which may be seen.
func (t Token) ID() string { id, _, _ := strings.Cut(t.Value, "."); return id }

func (t Token) lifeText() string {
	if t.TTL == 0 {
		return "ever"
	}
	return t.TTL.String()
}

// CreateToken makes a token known to the cluster. One that is there already is
// made anew with what is wanted now.
func CreateToken(ctx context.Context, client kubernetes.Interface, t Token) (Token, error) {
	if t.Value == "" {
		t.Value = GenerateToken()
	}
	secret, err := t.secret(time.Now())
	if err != nil {
		return t, err
	}
	secrets := client.CoreV1().Secrets(metav1.NamespaceSystem)
	_, err = secrets.Create(ctx, secret, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	}
	if err != nil {
		return t, fmt.Errorf("write bootstrap token %s: %w", t.ID(), err)
	}
	return t, nil
}

func (t Token) secret(now time.Time) (*corev1.Secret, error) {
	errs := []error{validToken(t.Value)}
	if len(t.Groups) == 0 {
		t.Groups = []string{defaultGroup}
	}
	if len(t.Usages) == 0 {
		t.Usages = tokenUsages
	}
	for _, group := range t.Groups {
		if !groupPattern.MatchString(group) {
			errs = append(errs, fmt.Errorf("--groups %q: must be of the form system:bootstrappers:NAME", group))
		}
	}
	if t.TTL < 0 {
		errs = append(errs, fmt.Errorf("--ttl %s: must not be negative; 0 is for ever", t.TTL))
	}
	id, word, _ := strings.Cut(t.Value, ".")
	data := map[string]string{"token-id": id, "token-secret": word, "auth-extra-groups": strings.Join(t.Groups, ",")}
	if t.TTL > 0 {
		data["expiration"] = now.Add(t.TTL).UTC().Format(time.RFC3339)
	}
	if t.Description != "" {
		data["description"] = t.Description
	}
	for _, usage := range t.Usages {
		if !slices.Contains(tokenUsages, usage) {
			errs = append(errs, fmt.Errorf("--usages %q: must be one of %s", usage, strings.Join(tokenUsages, ", ")))
		}
		data[usagePrefix+usage] = "true"
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: tokenNamePrefix + id, Namespace: metav1.NamespaceSystem},
		Type:       corev1.SecretTypeBootstrapToken, StringData: data,
	}, errors.Join(errs...)
}

// ListTokens writes a table of them, as `kubeadm token list` does.
func ListTokens(ctx context.Context, client kubernetes.Interface, out io.Writer, now time.Time) error {
	list, err := client.CoreV1().Secrets(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{FieldSelector: "type=" + string(corev1.SecretTypeBootstrapToken)})
	if err != nil {
		return fmt.Errorf("list bootstrap tokens: %w", err)
	}
	table := tabwriter.NewWriter(out, 10, 4, 3, ' ', 0)
	fmt.Fprintln(table, "TOKEN\tTTL\tEXPIRES\tUSAGES\tDESCRIPTION\tEXTRA GROUPS")
	for _, secret := range list.Items {
		fmt.Fprintln(table, strings.Join(tokenRow(secret.Data, now), "\t"))
	}
	return table.Flush()
}

func tokenRow(data map[string][]byte, now time.Time) []string {
	ttl, expires := "<forever>", "<never>"
	if text := string(data["expiration"]); text != "" {
		expires, ttl = text, "<invalid>"
		if end, err := time.Parse(time.RFC3339, text); err == nil {
			ttl = "<expired>"
			if end.After(now) {
				ttl = duration.ShortHumanDuration(end.Sub(now))
			}
		}
	}
	var usages []string
	for _, usage := range []string{"authentication", "signing"} {
		if string(data[usagePrefix+usage]) == "true" {
			usages = append(usages, usage)
		}
	}
	or := func(text string) string {
		if text == "" {
			return "<none>"
		}
		return text
	}
	return []string{
		string(data["token-id"]) + "." + string(data["token-secret"]), ttl, expires, or(strings.Join(usages, ",")),
		or(string(data["description"])), or(string(data["auth-extra-groups"])),
	}
}

// DeleteToken takes a whole token, or its ID.
func DeleteToken(ctx context.Context, client kubernetes.Interface, token string) error {
	id, _, whole := strings.Cut(token, ".")
	if whole && validToken(token) != nil || !tokenIDPattern.MatchString(id) {
		return errors.New("name a token, such as abcdef.0123456789abcdef, or the part before the dot")
	}
	if err := client.CoreV1().Secrets(metav1.NamespaceSystem).Delete(ctx, tokenNamePrefix+id, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("delete bootstrap token %s: %w", id, err)
	}
	return nil
}

// JoinCommand is what to type on another machine.
func JoinCommand(cluster components.Cluster, token Token, hash string) string {
	return fmt.Sprintf("podarium join %s --token %s --discovery-token-ca-cert-hash %s",
		netip.AddrPortFrom(cluster.ControlPlane, components.APIPort), token.Value, hash)
}

// ThisCluster is what a control plane machine knows for its join command.
func ThisCluster() (cluster components.Cluster, hash string, err error) {
	s, err := loadState()
	if err != nil {
		return components.Cluster{}, "", err
	}
	if s == nil || !s.ControlPlane {
		return components.Cluster{}, "", errors.New("this machine is no control plane: run this where `podarium init` was run")
	}
	ca, err := pki.LoadCA(components.PKI+"/ca.crt", components.PKI+"/ca.key")
	if err != nil {
		return components.Cluster{}, "", err
	}
	return s.Cluster, ca.Hash(), nil
}
