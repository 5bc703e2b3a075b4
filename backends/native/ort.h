/* The functions of the ONNX Runtime C API that the runner uses. Its header is in no wheel, but the API is a table of functions to
 * which new versions only append, so their places in it are all that is needed. They are all of version 5 (onnxruntime 1.5). */
#ifndef EDGELUT_ORT_H
#define EDGELUT_ORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct OrtEnv OrtEnv;
typedef struct OrtStatus OrtStatus;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtTypeInfo OrtTypeInfo;
typedef struct OrtShapeInfo OrtShapeInfo; /* there OrtTensorTypeAndShapeInfo */
typedef struct OrtValue OrtValue;
typedef struct OrtAllocator OrtAllocator;
typedef struct OrtBinding OrtBinding; /* there OrtIoBinding */

enum { ORT_API_VERSION = 5, ORT_ERRORS_ONLY = 3, ORT_SEQUENTIAL = 0, ORT_OPTIMIZE_ALL = 99 };
enum { ORT_NO_FILE = 3, ORT_NOT_IMPLEMENTED = 9 };

/* X(place in the table, result, name, arguments) */
#define ORT_FUNCTIONS(X)                                                                                           \
    X(1, int, GetErrorCode, (const OrtStatus *))                                                                   \
    X(2, const char *, GetErrorMessage, (const OrtStatus *))                                                       \
    X(3, OrtStatus *, CreateEnv, (int, const char *, OrtEnv **))                                                   \
    X(6, OrtStatus *, DisableTelemetryEvents, (const OrtEnv *))                                                    \
    X(7, OrtStatus *, CreateSession, (const OrtEnv *, const char *, const OrtSessionOptions *, OrtSession **))     \
    X(9, OrtStatus *, Run,                                                                                         \
      (OrtSession *, const OrtRunOptions *, const char *const *, const OrtValue *const *, size_t,                  \
       const char *const *, size_t, OrtValue **))                                                                  \
    X(10, OrtStatus *, CreateSessionOptions, (OrtSessionOptions **))                                               \
    X(13, OrtStatus *, SetSessionExecutionMode, (OrtSessionOptions *, int))                                        \
    X(22, OrtStatus *, SetSessionLogSeverityLevel, (OrtSessionOptions *, int))                                     \
    X(23, OrtStatus *, SetSessionGraphOptimizationLevel, (OrtSessionOptions *, int))                               \
    X(24, OrtStatus *, SetIntraOpNumThreads, (OrtSessionOptions *, int))                                           \
    X(25, OrtStatus *, SetInterOpNumThreads, (OrtSessionOptions *, int))                                           \
    X(30, OrtStatus *, SessionGetInputCount, (const OrtSession *, size_t *))                                       \
    X(31, OrtStatus *, SessionGetOutputCount, (const OrtSession *, size_t *))                                      \
    X(33, OrtStatus *, SessionGetInputTypeInfo, (const OrtSession *, size_t, OrtTypeInfo **))                      \
    X(34, OrtStatus *, SessionGetOutputTypeInfo, (const OrtSession *, size_t, OrtTypeInfo **))                     \
    X(36, OrtStatus *, SessionGetInputName, (const OrtSession *, size_t, OrtAllocator *, char **))                 \
    X(37, OrtStatus *, SessionGetOutputName, (const OrtSession *, size_t, OrtAllocator *, char **))                \
    X(48, OrtStatus *, CreateTensorAsOrtValue, (OrtAllocator *, const int64_t *, size_t, int, OrtValue **))        \
    X(51, OrtStatus *, GetTensorMutableData, (OrtValue *, void **))                                                \
    X(55, OrtStatus *, CastTypeInfoToTensorInfo, (const OrtTypeInfo *, const OrtShapeInfo **))                     \
    X(60, OrtStatus *, GetTensorElementType, (const OrtShapeInfo *, int *))                                        \
    X(61, OrtStatus *, GetDimensionsCount, (const OrtShapeInfo *, size_t *))                                       \
    X(62, OrtStatus *, GetDimensions, (const OrtShapeInfo *, int64_t *, size_t))                                   \
    X(65, OrtStatus *, GetTensorTypeAndShape, (const OrtValue *, OrtShapeInfo **))                                 \
    X(76, OrtStatus *, AllocatorFree, (OrtAllocator *, void *))                                                    \
    X(78, OrtStatus *, GetAllocatorWithDefaultOptions, (OrtAllocator **))                                          \
    X(92, void, ReleaseEnv, (OrtEnv *))                                                                            \
    X(93, void, ReleaseStatus, (OrtStatus *))                                                                      \
    X(95, void, ReleaseSession, (OrtSession *))                                                                    \
    X(96, void, ReleaseValue, (OrtValue *))                                                                        \
    X(98, void, ReleaseTypeInfo, (OrtTypeInfo *))                                                                  \
    X(99, void, ReleaseTensorTypeAndShapeInfo, (OrtShapeInfo *))                                                   \
    X(100, void, ReleaseSessionOptions, (OrtSessionOptions *))                                                     \
    X(130, OrtStatus *, AddSessionConfigEntry, (OrtSessionOptions *, const char *, const char *))                  \
    X(133, OrtStatus *, RunWithBinding, (OrtSession *, const OrtRunOptions *, const OrtBinding *))                 \
    X(134, OrtStatus *, CreateIoBinding, (OrtSession *, OrtBinding **))                                            \
    X(135, void, ReleaseIoBinding, (OrtBinding *))                                                                 \
    X(136, OrtStatus *, BindInput, (OrtBinding *, const char *, const OrtValue *))                                 \
    X(137, OrtStatus *, BindOutput, (OrtBinding *, const char *, const OrtValue *))

typedef struct {
#define ORT_MEMBER(place, result, name, arguments) result(*name) arguments;
    ORT_FUNCTIONS(ORT_MEMBER)
#undef ORT_MEMBER
} Ort;

extern Ort ort;             /* filled by ort_load */
extern OrtEnv *ort_env;     /* errors only, telemetry off */
extern OrtAllocator *ort_allocator;

/* Load libonnxruntime from the folder of the program, else from where the system looks; return its version, or NULL with the reason
 * in `why`. */
const char *ort_load(const char *program, char *why, size_t why_bytes);
void ort_unload(void);

#endif
