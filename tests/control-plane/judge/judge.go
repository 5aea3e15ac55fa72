// Package judge asks a release of kube-apiserver what it makes of EncryptionConfiguration files.
//
// A request is a byte of flags, a length in four bytes, highest first, and a file. The answer is a
// line of JSON. Requests come on stdin, answers go to stdout.
package judge

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"
	"k8s.io/klog/v2"
)

const (
	automaticReload = 1 << iota
	kmsv1
	kmsv2
)

// Load is the release's LoadEncryptionConfig.
type Load func(ctx context.Context, path string, reload bool) error

type answer struct {
	Stage string `json:"stage"`
	// Without the words that stand before it at every such stage.
	Message string `json:"message"`
	// Each error of validation.
	Fields []fieldError `json:"fields,omitempty"`
}

type fieldError struct {
	Path string `json:"path"`
	Kind string `json:"kind"`
	Text string `json:"text"`
}

// Main answers until stdin ends. The one argument names a file that can be written; it is what the
// loader reads.
func Main(load Load) {
	if err := serve(load, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		os.Exit(1)
	}
}

func serve(load Load, path string) error {
	silenceLog()
	// Nothing waits for a KMS plugin.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()

	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var head struct {
			Flags  byte
			Length uint32
		}
		if err := binary.Read(in, binary.BigEndian, &head); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		file := make([]byte, head.Length)
		if _, err := io.ReadFull(in, file); err != nil {
			return err
		}
		if err := os.WriteFile(path, file, 0o600); err != nil {
			return err
		}
		for gate, flag := range map[featuregate.Feature]byte{"KMSv1": kmsv1, "KMSv2": kmsv2} {
			if err := set(gate, head.Flags&flag != 0); err != nil {
				return err
			}
		}
		err := loadWithoutPanic(load, ctx, path, head.Flags&automaticReload != 0)
		if err := out.Encode(answerTo(err, path)); err != nil {
			return err
		}
	}
}

func silenceLog() {
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	for name, value := range map[string]string{"logtostderr": "false", "stderrthreshold": "FATAL"} {
		if err := flags.Set(name, value); err != nil {
			panic(err)
		}
	}
	klog.SetOutput(io.Discard)
}

// Releases that have no such gate, or not the choice, are left as they are.
func set(gate featuregate.Feature, enabled bool) error {
	gates := utilfeature.DefaultMutableFeatureGate
	spec, known := gates.GetAll()[gate]
	if !known || spec.LockToDefault || gates.Enabled(gate) == enabled {
		return nil
	}
	return gates.SetFromMap(map[string]bool{string(gate): enabled})
}

type panicked struct{ value any }

func (p panicked) Error() string { return fmt.Sprint("panic: ", p.value) }

func loadWithoutPanic(load Load, ctx context.Context, path string, reload bool) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = panicked{value}
		}
	}()
	return load(ctx, path, reload)
}

// The loader's own words say how far it came.
func answerTo(err error, path string) answer {
	if err == nil {
		return answer{Stage: "ok"}
	}
	if p := (panicked{}); errors.As(err, &p) {
		return answer{Stage: "panic", Message: p.Error()}
	}
	if message, found := strings.CutPrefix(err.Error(), "error while building transformers: "); found {
		return answer{Stage: "load", Message: message}
	}
	message, found := strings.CutPrefix(err.Error(), "error while parsing file: ")
	if !found {
		return answer{Stage: "unknown", Message: err.Error()}
	}
	file := fmt.Sprintf("encryption provider configuration file %q", path)
	if strings.HasSuffix(message, file+" is empty") {
		return answer{Stage: "empty", Message: message}
	}
	if cause, found := strings.CutPrefix(message, "error decoding "+file+": "); found {
		return answer{Stage: "decode", Message: cause}
	}
	if strings.HasPrefix(message, "got unexpected config type: ") {
		return answer{Stage: "decode", Message: message}
	}
	return answer{Stage: "validate", Message: message, Fields: fieldErrors(err)}
}

// The list that ValidateEncryptionConfiguration returned is within the loader's error.
func fieldErrors(err error) []fieldError {
	var list utilerrors.Aggregate
	if !errors.As(err, &list) {
		return nil
	}
	var fields []fieldError
	for _, err := range list.Errors() {
		var at *field.Error
		if errors.As(err, &at) {
			fields = append(fields, fieldError{at.Field, at.Type.String(), at.Error()})
		}
	}
	return fields
}
