package mongoerr

import "fmt"

// Code is a MongoDB error code. Codes without a row in the table are location
// codes, whose name is "Location" and the number.
type Code int32

// Codes that Cairn's own code raises or tests for. The table of names holds all.
const (
	InternalError                   Code = 1
	BadValue                        Code = 2
	NoSuchKey                       Code = 4
	HostUnreachable                 Code = 6
	HostNotFound                    Code = 7
	UnknownError                    Code = 8
	FailedToParse                   Code = 9
	Unauthorized                    Code = 13
	TypeMismatch                    Code = 14
	Overflow                        Code = 15
	InvalidLength                   Code = 16
	ProtocolError                   Code = 17
	AuthenticationFailed            Code = 18
	IllegalOperation                Code = 20
	AlreadyInitialized              Code = 23
	LockTimeout                     Code = 24
	NamespaceNotFound               Code = 26
	IndexNotFound                   Code = 27
	PathNotViable                   Code = 28
	RoleNotFound                    Code = 31
	CannotBackfillArray             Code = 37
	ConflictingUpdateOperators      Code = 40
	CursorNotFound                  Code = 43
	NamespaceExists                 Code = 48
	MaxTimeMSExpired                Code = 50
	DollarPrefixedFieldName         Code = 52
	InvalidIdField                  Code = 53
	NotSingleValueField             Code = 54
	InvalidDBRef                    Code = 55
	EmptyFieldName                  Code = 56
	DottedFieldName                 Code = 57
	CommandNotFound                 Code = 59
	DatabaseNotFound                Code = 60
	WriteConcernFailed              Code = 64
	ImmutableField                  Code = 66
	CannotCreateIndex               Code = 67
	IndexAlreadyExists              Code = 68
	InvalidOptions                  Code = 72
	InvalidNamespace                Code = 73
	NodeNotFound                    Code = 74
	NoReplicationEnabled            Code = 76
	UnknownReplWriteConcern         Code = 79
	IndexOptionsConflict            Code = 85
	IndexKeySpecsConflict           Code = 86
	ShutdownInProgress              Code = 91
	InvalidReplicaSetConfig         Code = 93
	NotYetInitialized               Code = 94
	OperationFailed                 Code = 96
	DBPathInUse                     Code = 98
	UnsatisfiableWriteConcern       Code = 100
	InvalidViewDefinition           Code = 182
	WriteConflict                   Code = 112
	CommandNotSupported             Code = 115
	DocumentValidationFailure       Code = 121
	CappedPositionLost              Code = 136
	DataCorruptionDetected          Code = 305
	NoSuchTransaction               Code = 251
	TransactionTooOld               Code = 225
	IncompleteTransactionHistory    Code = 217
	CursorInUse                     Code = 293
	CommandNotSupportedOnView       Code = 166
	OptionNotSupportedOnView        Code = 167
	InvalidPipelineOperator         Code = 168
	QueryPlanKilled                 Code = 175
	ObjectTooLarge                  Code = 10334
	CannotImplicitlyCreate          Code = 227
	ClientMetadataCannotBeMutated   Code = 186
	ClientDisconnect                Code = 279
	SnapshotTooOld                  Code = 239
	SnapshotUnavailable             Code = 246
	InvalidIndexSpecificationOption Code = 197
	QueryExceededMemoryLimit        Code = 292
	IndexBuildAborted               Code = 276
	OplogOperationUnsupported       Code = 62
	OutOfDiskSpace                  Code = 14031
	NoQueryExecutionPlans           Code = 291
	ConversionFailure               Code = 241
	NotWritablePrimary              Code = 10107
	Interrupted                     Code = 11601
	InterruptedAtShutdown           Code = 11600
	DuplicateKey                    Code = 11000
	UnsupportedOpQueryCommand       Code = 352
	APIVersionError                 Code = 322
	APIStrictError                  Code = 323
	APIDeprecationError             Code = 324
	UnknownField                    Code = 40415
	UnrecognizedStage               Code = 40324
)

// String returns the code name: "BadValue", "Location40415".
func (c Code) String() string {
	if n, ok := names[c]; ok {
		return n
	}
	return fmt.Sprintf("Location%d", int32(c))
}
