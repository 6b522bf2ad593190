package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/podarium/podarium/internal/cli"
	"github.com/podarium/podarium/kubelet/image"
	"github.com/podarium/podarium/lab/world"
)

const imageHelp = `podarium image shows and fills the store of images which a lab's nodes share.

  podarium image list                 what is there; a pinned image is never removed to free space
  podarium image load FILE            from docker save, an OCI archive or an OCI layout directory
  podarium image pull REF             from a registry
`

func imageCommand(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stdout, imageHelp)
		return cli.ExitError(2)
	}
	flags := cli.NewFlagSet("podarium image "+args[0], imageHelp)
	name := labName()
	labNameFlag(flags, &name)
	root := flags.String("image-root", "", "`directory` of the store; empty: the lab's, which all its nodes share")
	proxy := flags.String("image-pull-proxy", "", "HTTP proxy for pulls, unix:///`socket`")
	insecure := flags.Bool("insecure", false, "pull by plain http")
	if err := cli.ParseSome(flags, args[1:]); err != nil {
		return err
	}
	if *root == "" {
		cfg, err := world.Load(name)
		if err != nil {
			return err
		}
		*root = cfg.ImagesDir()
	}
	store, err := image.Open(*root)
	if err != nil {
		return err
	}
	rest := flags.Args()
	switch {
	case args[0] == "list" && len(rest) == 0:
		return imageList(store)
	case args[0] == "load" && len(rest) == 1:
		refs, err := store.Load(ctx, rest[0])
		for _, ref := range refs {
			fmt.Println("loaded", ref)
		}
		return err
	case args[0] == "pull" && len(rest) == 1:
		return imagePull(ctx, store, rest[0], *proxy, *insecure)
	default:
		return errors.New("use: podarium image list | load FILE | pull REF")
	}
}

func imageList(store *image.Store) error {
	images, err := store.List()
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 8, 3, ' ', 0)
	fmt.Fprintln(table, "IMAGE\tID\tSIZE\tCREATED\tPINNED")
	for _, img := range images {
		created := "-"
		if !img.Created.IsZero() {
			created = img.Created.Format(time.DateOnly)
		}
		pinned := "-"
		if img.Pinned {
			pinned = "yes"
		}
		id := strings.TrimPrefix(img.ConfigDigest, "sha256:")
		fmt.Fprintf(table, "%s\t%.12s\t%.1f MB\t%s\t%s\n", img.Ref, id, float64(img.Size)/1e6, created, pinned)
	}
	return table.Flush()
}

func imagePull(ctx context.Context, store *image.Store, ref, proxy string, insecure bool) error {
	opts := image.PullOptions{Insecure: insecure}
	if proxy != "" {
		socket, ok := strings.CutPrefix(proxy, "unix://")
		if !ok {
			return fmt.Errorf("--image-pull-proxy %q does not begin with unix://", proxy)
		}
		opts.Dial = image.ThroughProxy(socket)
	}
	img, err := store.Pull(ctx, ref, opts)
	if err != nil {
		return err
	}
	fmt.Println("pulled", img.Ref, img.Digest)
	return nil
}
