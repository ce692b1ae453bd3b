package repo

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

const (
	// DefaultPackSize is the size at which a pack is uploaded. A store is paid by request and
	// reads at full speed from some megabytes on; memory is two packs.
	DefaultPackSize = 16 << 20
	minPackSize     = 64 << 10 // only tests go below 8 MB
	maxPackSize     = 64 << 20
)

// DefaultLockTTL is how long a process that is gone without a word, with its machine or container,
// keeps others waiting. It is refreshed four times in it. A holder that could not for longer, because
// the store was away, goes on when the store is back, unless somebody took the lock over.
const DefaultLockTTL = time.Minute

// Options say how to reach and to open a repository. The zero value opens one that is not
// encrypted.
type Options struct {
	Passphrase string         // "" is none
	Identities []age.Identity // secret keys, any of which may open the repository
	Cache      string         // directory that keeps indexes and manifests; "" is none
	Retry      Retry
	Level      zstd.EncoderLevel // of compression; 0 is zstd.SpeedFastest: a third less CPU for 2 % more bytes
	Workers    int               // that compress, and that read ahead; 0 is GOMAXPROCS, at most 4
	LockTTL    time.Duration     // after which a lock that is not refreshed is stale; 0 is DefaultLockTTL
	Owner      string            // who holds locks, for people; "" is user@host

	// Now is the wall clock of this machine, for the names and times that people read; nothing
	// depends on its being right. nil is time.Now.
	Now func() time.Time

	// Tests only: the store's calls are theirs.
	wrap func(backend) backend
	cost int           // log2 of scrypt's work; 0 is age's default
	poll time.Duration // between two looks at another's lock; 0 is a second
}

// OpenOptions are the options of Open.
type OpenOptions struct{ Options }

// InitOptions are the options of Init. With a passphrase or a recipient the repository is
// encrypted; identities are not needed to make it, only to read it later.
type InitOptions struct {
	Options
	Recipients   []age.Recipient // public keys that may open the repository
	AverageChunk int             // bytes, a power of two from 2 KB to 64 KB; 0 is DefaultAverage
	PackSize     int             // bytes, 8 to 64 MB; 0 is DefaultPackSize
}

var (
	// ErrNoRepository is that there is no format marker below the URL.
	ErrNoRepository = errors.New("there is no repository here; `cairn backup init` makes one")
	// ErrExists is that Init found a repository.
	ErrExists = errors.New("there is a repository here already")
	// ErrKeyNeeded is that the repository is encrypted and no key was given.
	ErrKeyNeeded = errors.New("the repository is encrypted: give its passphrase or an age identity")
	// ErrWrongKey is that no key of the repository opens with what was given.
	ErrWrongKey = errors.New("the passphrase or identity opens none of the repository's keys")
	// ErrNotEncrypted is that a key was given for a repository that is in the clear.
	ErrNotEncrypted = errors.New("a key was given, but the repository is not encrypted: if it should be, someone has replaced its marker")
)

// Repo is an open repository. It may be used by many goroutines.
type Repo struct {
	url    string
	store  *store
	marker *Marker
	keys   *keys
	codec  *codec
	cutter *cutter
	opts   Options

	// index and what it was made of; see loadIndex.
	mu           sync.RWMutex // guards the contents of every index and the field
	loading      sync.Mutex   // one load at a time
	index        *chunkIndex
	indexObjects map[string]bool
	trash        map[string]bool
	blocks       *blockCache
	letGoLocks   map[string]bool // ids of locks of ours that are not held any more, but may be there
	logBuffers   sync.Pool       // *[logChunk]byte
	packBuffers  chan []byte     // one that is free, at most
}

// Init makes a repository where there is none. The marker is written last, so that what was
// interrupted is no repository.
func Init(ctx context.Context, url string, o InitOptions) (*Repo, error) {
	if o.AverageChunk == 0 {
		o.AverageChunk = DefaultAverage
	}
	if o.PackSize == 0 {
		o.PackSize = DefaultPackSize
	}
	if (o.PackSize < 8<<20 && o.wrap == nil && o.cost == 0) || o.PackSize < minPackSize || o.PackSize > maxPackSize {
		return nil, fmt.Errorf("pack size %d: it is 8 to 64 MB", o.PackSize)
	}
	m := &Marker{Format: markerFormat, Version: markerVersion, ID: randomHex(16), Encryption: encryptionNone,
		Chunker: chunkerParams(o.AverageChunk), PackSize: o.PackSize}
	if err := m.Chunker.check(); err != nil {
		return nil, err
	}
	r, err := connect(ctx, url, o.Options, true)
	if err != nil {
		return nil, err
	}
	m.Created = r.now().UTC().Truncate(time.Second)
	if err := r.create(ctx, m, o); err != nil {
		return nil, errors.Join(fmt.Errorf("repository %s: %w", redact(url), err), r.Close())
	}
	return r, nil
}

func (r *Repo) create(ctx context.Context, m *Marker, o InitOptions) error {
	if _, err := r.store.stat(ctx, markerName); err == nil {
		return ErrExists
	} else if !isNotFound(err) {
		return err
	}
	var master []byte
	if o.Passphrase != "" || len(o.Recipients) > 0 {
		m.Encryption = encryptionAge
		master = newSalt()
	}
	if err := r.use(m, master); err != nil {
		return err
	}
	if err := r.addFirstKeys(ctx, o); err != nil {
		return err
	}
	data, err := m.encode()
	if err != nil {
		return err
	}
	if err := r.store.putNew(ctx, markerName, data); err != nil {
		// Another may have been first, or the answer was lost: what is there now decides.
		if got, gerr := r.readMarker(ctx); gerr != nil || got.ID != m.ID {
			if gerr == nil {
				err = ErrExists
			}
			return err
		}
	}
	return nil
}

// Open opens a repository.
func Open(ctx context.Context, url string, o OpenOptions) (*Repo, error) {
	r, err := connect(ctx, url, o.Options, false)
	if err != nil {
		return nil, err
	}
	if err := r.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("repository %s: %w", redact(url), err), r.Close())
	}
	return r, nil
}

func (r *Repo) open(ctx context.Context) error {
	m, err := r.readMarker(ctx)
	if err != nil {
		return err
	}
	given := r.opts.Passphrase != "" || len(r.opts.Identities) > 0
	if !m.Encrypted() {
		if given {
			return ErrNotEncrypted
		}
		return r.use(m, nil)
	}
	if !given {
		return ErrKeyNeeded
	}
	master, err := r.unlock(ctx, m)
	if err != nil {
		return err
	}
	return r.use(m, master)
}

func (r *Repo) readMarker(ctx context.Context) (*Marker, error) {
	data, err := r.store.get(ctx, markerName)
	if isNotFound(err) {
		return nil, ErrNoRepository
	}
	if err != nil {
		return nil, err
	}
	return decodeMarker(data)
}

// connect opens the store; the repository is not usable before use.
func connect(ctx context.Context, url string, o Options, create bool) (*Repo, error) {
	b, err := openBackend(ctx, url, create)
	if err != nil {
		return nil, err
	}
	if o.wrap != nil {
		b = o.wrap(b)
	}
	if o.Workers <= 0 {
		o.Workers = min(runtime.GOMAXPROCS(0), 4)
	}
	if o.Level == 0 {
		o.Level = zstd.SpeedFastest
	}
	if o.LockTTL <= 0 {
		o.LockTTL = DefaultLockTTL
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	c, err := newCodec(o.Level, o.Workers)
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return &Repo{url: url, store: newStore(b, o.Retry, o.Cache), codec: c, opts: o, blocks: newBlockCache(16 << 20), packBuffers: make(chan []byte, 1)}, nil
}

// use sets the marker and what follows from it.
func (r *Repo) use(m *Marker, master []byte) error {
	k, err := newKeys(master)
	if err != nil {
		return err
	}
	r.marker, r.keys, r.cutter = m, k, newCutter(m.Chunker, k.gear)
	if r.store.cache != "" {
		r.store.cache += "/" + m.ID // one directory may serve many repositories
	}
	return nil
}

func (r *Repo) now() time.Time { return r.opts.Now() }

// Marker returns the format marker.
func (r *Repo) Marker() Marker { return *r.marker }

// URL is where the repository is, without a password.
func (r *Repo) URL() string { return redact(r.url) }

// Requests says what was asked of the store so far.
func (r *Repo) Requests() Requests { return r.store.requests() }

// Close ends the use of the store. Writers, readers and locks must be closed before.
func (r *Repo) Close() error {
	r.codec.dec.Close()
	return errors.Join(r.codec.enc.Close(), r.store.b.close())
}
