// Package client calls a KMS plugin with the client of a release of kube-apiserver. The answer is a
// line of JSON.
//
//	PROGRAM heads LISTEN PLUGIN ROUNDS
//
// tells what it sends: LISTEN is the path of the socket that the client is pointed at, which passes every
// byte on to the socket PLUGIN.
//
//	PROGRAM load PLUGIN RATE
//
// makes RATE calls a second, whether the ones before are answered or not, until stdin ends.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	"k8s.io/kms/pkg/service"
)

type answer struct {
	// Of grpc-go.
	GRPC string `json:"grpc"`
	// Each `:authority` that was sent, in the order in which it first was.
	Authorities []string `json:"authorities"`
	// How many calls were answered as they should be.
	Answered int `json:"answered"`
	// Of the first call that was not.
	Error string `json:"error,omitempty"`
}

// Main does what the arguments say.
func Main() {
	var result any
	var err error
	switch arguments := os.Args[1:]; {
	case len(arguments) == 4 && arguments[0] == "heads":
		result, err = heads(arguments[1], arguments[2], arguments[3])
	case len(arguments) == 3 && arguments[0] == "load":
		result, err = load(arguments[1], arguments[2])
	default:
		err = fmt.Errorf("usage: %s heads LISTEN PLUGIN ROUNDS | load PLUGIN RATE", os.Args[0])
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		os.Exit(1)
	}
}

func dial(path string) (service.Service, error) {
	return kmsv2.NewGRPCService(context.Background(), "unix://"+path, "atrest", 3*time.Second)
}

func heads(path, plugin, rounds string) (*answer, error) {
	count, err := strconv.Atoi(rounds)
	if err != nil {
		return nil, err
	}
	recorder, err := listen(path, plugin)
	if err != nil {
		return nil, err
	}
	client, err := dial(path)
	if err != nil {
		return nil, err
	}
	result := &answer{GRPC: grpc.Version}
	for range count {
		answered, err := round(client)
		result.Answered += answered
		if err != nil {
			result.Error = err.Error()
			break
		}
	}
	result.Authorities = recorder.authorities()
	return result, nil
}

func round(plugin service.Service) (answered int, err error) {
	ctx := context.Background()
	status, err := plugin.Status(ctx)
	if err != nil {
		return answered, fmt.Errorf("Status: %w", err)
	}
	answered++
	stored, err := plugin.Encrypt(ctx, "4f1b2c", seed)
	if err != nil {
		return answered, fmt.Errorf("Encrypt: %w", err)
	}
	if stored.KeyID != status.KeyID {
		return answered, fmt.Errorf("Encrypt: key_id %q, and %q of Status", stored.KeyID, status.KeyID)
	}
	answered++
	opened, err := plugin.Decrypt(ctx, "4f1b2d", &service.DecryptRequest{
		Ciphertext:  stored.Ciphertext,
		KeyID:       stored.KeyID,
		Annotations: stored.Annotations,
	})
	if err != nil {
		return answered, fmt.Errorf("Decrypt: %w", err)
	}
	if !bytes.Equal(opened, seed) {
		return answered, fmt.Errorf("Decrypt: another plaintext")
	}
	return answered + 1, nil
}

var seed = []byte("a seed of 32 bytes, as they come")

// A recorder reads along with what the client sends.
type recorder struct {
	lock sync.Mutex
	seen []string
}

func listen(path, plugin string) (*recorder, error) {
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	recorder := &recorder{seen: []string{}}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", plugin)
			if err != nil {
				client.Close()
				continue
			}
			go recorder.pass(client, server)
		}
	}()
	return recorder, nil
}

func (r *recorder) pass(client, server net.Conn) {
	go func() {
		_, _ = io.Copy(client, server)
		client.Close()
	}()
	copied, along := io.Pipe()
	go r.read(copied)
	_, _ = io.Copy(server, io.TeeReader(client, along))
	along.Close()
	server.Close()
}

func (r *recorder) read(from *io.PipeReader) {
	// Whatever happens, the client is not held up.
	defer func() { _, _ = io.Copy(io.Discard, from) }()
	if _, err := io.CopyN(io.Discard, from, int64(len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(io.Discard, from)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		if head, ok := frame.(*http2.MetaHeadersFrame); ok {
			r.note(head.PseudoValue("authority"))
		}
	}
}

func (r *recorder) note(authority string) {
	r.lock.Lock()
	defer r.lock.Unlock()
	for _, seen := range r.seen {
		if seen == authority {
			return
		}
	}
	r.seen = append(r.seen, authority)
}

func (r *recorder) authorities() []string {
	r.lock.Lock()
	defer r.lock.Unlock()
	return r.seen
}
