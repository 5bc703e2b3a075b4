/* Finds ONNX Runtime and takes from its table the functions that the runner uses. */
#include "ort.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*Slot)(void);
typedef struct {
    Slot slots[150]; /* at least, in version 5 */
} OrtApi;
typedef struct {
    const OrtApi *(*get_api)(uint32_t version);
    const char *(*version)(void);
} OrtApiBase;

Ort ort;
OrtEnv *ort_env;
OrtAllocator *ort_allocator;

static void *open_library(const char *program) {
    static const char *const names[] = {"libonnxruntime.so.1", "libonnxruntime.so"};
    const char *slash = strrchr(program, '/');
    for (size_t i = 0; i < 2 && slash; i++) {
        char path[4096];
        int length = snprintf(path, sizeof path, "%.*s/%s", (int)(slash - program), program, names[i]);
        void *library = length > 0 && (size_t)length < sizeof path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
        if (library) return library;
    }
    void *library = NULL;
    for (size_t i = 0; i < 2 && !library; i++) library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    return library;
}

const char *ort_load(const char *program, char *why, size_t why_bytes) {
    setenv("ORT_DISABLE_TELEMETRY", "1", 1); /* before it is loaded: it reports to its maker, and has a thread for that */
    void *library = open_library(program);
    if (!library) {
        snprintf(why, why_bytes, "%s", dlerror());
        return NULL;
    }
    const OrtApiBase *(*get_base)(void) = NULL;
    *(void **)&get_base = dlsym(library, "OrtGetApiBase");
    const OrtApiBase *base = get_base ? get_base() : NULL;
    const OrtApi *api = base ? base->get_api(ORT_API_VERSION) : NULL;
    if (!api) {
        snprintf(why, why_bytes, "libonnxruntime has no API of version %d", ORT_API_VERSION);
        return NULL;
    }
#define ORT_FILL(place, result, name, arguments) ort.name = (result(*) arguments)api->slots[place];
    ORT_FUNCTIONS(ORT_FILL)
#undef ORT_FILL
    OrtStatus *status = ort.CreateEnv(ORT_ERRORS_ONLY, "edgelut", &ort_env);
    if (!status) status = ort.DisableTelemetryEvents(ort_env);
    if (!status) status = ort.GetAllocatorWithDefaultOptions(&ort_allocator);
    if (status) {
        snprintf(why, why_bytes, "%s", ort.GetErrorMessage(status));
        ort.ReleaseStatus(status);
        return NULL;
    }
    return base->version();
}

void ort_unload(void) {
    if (ort_env) ort.ReleaseEnv(ort_env);
    ort_env = NULL;
}
