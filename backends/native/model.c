#include "model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "answer.h"
#include "ort.h"
#include "sample.h"

#define MOST_ENDS 1024 /* inputs or outputs of one model */
#define MOST_DIMS 16

typedef struct {
    char *name; /* in onnxruntime's memory */
    int type;
    size_t rank;
    int64_t shape[MOST_DIMS]; /* -1 where the file leaves it open */
    OrtValue *value;
    size_t bytes;
} End;

typedef struct {
    OrtSession *session;
    OrtBinding *binding;
    End *inputs, *outputs;
    size_t input_count, output_count;
    int64_t held_bytes; /* of memory, before it was opened; -1 where the system does not say */
    bool bound;
} Model;

/* By the numbers of ONNXTensorElementDataType. */
static const struct {
    const char *name;
    size_t bytes;
} TYPES[] = {
    [1] = {"float32", 4}, [2] = {"uint8", 1},   [3] = {"int8", 1},     [4] = {"uint16", 2},  [5] = {"int16", 2},
    [6] = {"int32", 4},   [7] = {"int64", 8},   [9] = {"bool", 1},     [10] = {"float16", 2}, [11] = {"float64", 8},
    [12] = {"uint32", 4}, [13] = {"uint64", 8},
};
enum { TYPE_COUNT = sizeof TYPES / sizeof TYPES[0] };

static Model *models[MOST_MODELS];
static const Model *last_opened; /* whose opening the system's peak of memory tells of */

/* Answer for a status and release it; `kind` is said where the status says nothing better. True where there is none. */
static bool check(OrtStatus *status, const char *kind) {
    if (!status) return true;
    const char *message = ort.GetErrorMessage(status);
    int code = ort.GetErrorCode(status);
    if (code == ORT_NOT_IMPLEMENTED) kind = UNSUPPORTED;
    else if (code == ORT_NO_FILE) kind = IO;
    else if (strstr(message, "bad_alloc") || strstr(message, "Failed to allocate")) kind = MEMORY;
    fail(kind, "%s", message);
    ort.ReleaseStatus(status);
    return false;
}

static Model *find(long number) {
    if (!models[number]) fail(ARGUMENT, "no model %ld is open", number);
    return models[number];
}

/* ---- memory, as the kernel sees it: Linux only, and not where another machine is imitated */

static int64_t memory_line(const char *name) {
    FILE *status = counter_counts() ? NULL : fopen("/proc/self/status", "r");
    char line[256];
    int64_t bytes = -1;
    while (status && bytes < 0 && fgets(line, sizeof line, status))
        if (!strncmp(line, name, strlen(name))) bytes = strtoll(line + strlen(name), NULL, 10) * 1024;
    if (status) fclose(status);
    return bytes;
}

/* Set the peak back to what is held now, and return that. */
static int64_t reset_peak(void) {
    FILE *refs = counter_counts() ? NULL : fopen("/proc/self/clear_refs", "w");
    bool done = refs && fputs("5", refs) >= 0;
    if (refs && fclose(refs)) done = false;
    return done ? memory_line("VmRSS:") : -1;
}

static void put_peak(const Model *model) {
    int64_t peak = model->held_bytes >= 0 && model == last_opened ? memory_line("VmHWM:") : -1;
    if (peak < 0) put(", \"peak_memory_bytes\": null");
    else put(", \"peak_memory_bytes\": %" PRId64, peak > model->held_bytes ? peak - model->held_bytes : 0);
}

/* ---- inputs and outputs */

static void put_ends(const char *name, const End *ends, size_t count) {
    put(", \"%s\": [", name);
    for (size_t i = 0; i < count; i++) {
        put("%s{\"name\": ", i ? ", " : "");
        put_string(ends[i].name);
        put(", \"type\": \"%s\"", TYPES[ends[i].type].name);
        put_numbers("shape", ends[i].shape, ends[i].rank);
        put("}");
    }
    put("]");
}

static bool describe_shape(const OrtShapeInfo *shape, End *end) {
    if (!check(ort.GetTensorElementType(shape, &end->type), CORRUPTED)) return false;
    if (!check(ort.GetDimensionsCount(shape, &end->rank), CORRUPTED)) return false;
    if (end->type < 0 || end->type >= TYPE_COUNT || !TYPES[end->type].name)
        return fail(UNSUPPORTED, "%s holds elements of type %d", end->name, end->type);
    if (end->rank > MOST_DIMS) return fail(UNSUPPORTED, "%s has %zu dimensions", end->name, end->rank);
    return check(ort.GetDimensions(shape, end->shape, end->rank), CORRUPTED);
}

static bool describe_end(const Model *model, size_t i, bool is_input, End *end) {
    OrtTypeInfo *info = NULL;
    const OrtShapeInfo *shape = NULL; /* part of info */
    if (!check((is_input ? ort.SessionGetInputName : ort.SessionGetOutputName)(model->session, i, ort_allocator, &end->name),
               CORRUPTED))
        return false;
    if (!check((is_input ? ort.SessionGetInputTypeInfo : ort.SessionGetOutputTypeInfo)(model->session, i, &info), CORRUPTED))
        return false;
    bool done = check(ort.CastTypeInfoToTensorInfo(info, &shape), CORRUPTED) &&
                (shape || fail(UNSUPPORTED, "%s is no tensor", end->name)) && describe_shape(shape, end);
    ort.ReleaseTypeInfo(info);
    return done;
}

static bool describe(Model *model, bool is_input) {
    size_t count = 0;
    if (!check((is_input ? ort.SessionGetInputCount : ort.SessionGetOutputCount)(model->session, &count), CORRUPTED)) return false;
    if (count > MOST_ENDS) return fail(UNSUPPORTED, "it has %zu %s", count, is_input ? "inputs" : "outputs");
    End *ends = calloc(count ? count : 1, sizeof *ends);
    if (!ends) return fail(MEMORY, "no memory for %zu names", count);
    *(is_input ? &model->inputs : &model->outputs) = ends;
    *(is_input ? &model->input_count : &model->output_count) = count;
    for (size_t i = 0; i < count; i++)
        if (!describe_end(model, i, is_input, &ends[i])) return false;
    return true;
}

static void release_value(End *end) {
    if (end->value) ort.ReleaseValue(end->value);
    end->value = NULL;
}

static void release_ends(End *ends, size_t count) {
    for (size_t i = 0; ends && i < count; i++) {
        release_value(&ends[i]);
        if (ends[i].name) {
            OrtStatus *status = ort.AllocatorFree(ort_allocator, ends[i].name);
            if (status) ort.ReleaseStatus(status);
        }
    }
    free(ends);
}

/* ---- open and close */

static bool create_session(Model *model, const char *path, long threads) {
    OrtSessionOptions *options = NULL;
    if (!check(ort.CreateSessionOptions(&options), MEMORY)) return false;
    /* The same as backends/onnx_precision.py: threads spin while a call lasts and not into another session's burst. */
    bool done = check(ort.SetSessionGraphOptimizationLevel(options, ORT_OPTIMIZE_ALL), ARGUMENT) &&
                check(ort.SetSessionExecutionMode(options, ORT_SEQUENTIAL), ARGUMENT) &&
                check(ort.SetIntraOpNumThreads(options, (int)threads), ARGUMENT) &&
                check(ort.SetInterOpNumThreads(options, 1), ARGUMENT) &&
                check(ort.SetSessionLogSeverityLevel(options, ORT_ERRORS_ONLY), ARGUMENT) &&
                check(ort.AddSessionConfigEntry(options, "session.force_spinning_stop", "1"), ARGUMENT) &&
                check(ort.CreateSession(ort_env, path, options, &model->session), CORRUPTED);
    ort.ReleaseSessionOptions(options);
    return done;
}

static void release(Model *model) {
    if (!model) return;
    if (model == last_opened) last_opened = NULL;
    if (model->binding) ort.ReleaseIoBinding(model->binding);
    release_ends(model->inputs, model->input_count);
    release_ends(model->outputs, model->output_count);
    if (model->session) ort.ReleaseSession(model->session);
    free(model);
}

bool model_open(long number, const char *path, long threads) {
    if (models[number]) return fail(ARGUMENT, "a model %ld is open already", number);
    if (access(path, R_OK)) return fail(IO, "%s: %s", path, strerror(errno));
    Model *model = calloc(1, sizeof *model);
    if (!model) return fail(MEMORY, "no memory for a model");
    model->held_bytes = reset_peak();
    last_opened = model;
    int64_t started = wall_ns();
    bool done = create_session(model, path, threads);
    int64_t load_ns = wall_ns() - started;
    if (!done || !describe(model, true) || !describe(model, false)) {
        release(model);
        return false;
    }
    models[number] = model;
    put("{\"ok\": true, \"load_ns\": %" PRId64, load_ns);
    put_peak(model);
    put_ends("inputs", model->inputs, model->input_count);
    put_ends("outputs", model->outputs, model->output_count);
    put("}");
    put_line();
    return true;
}

bool model_close(long number) {
    if (!find(number)) return false;
    release(models[number]);
    models[number] = NULL;
    put("{\"ok\": true}");
    put_line();
    return true;
}

void model_close_all(void) {
    for (size_t i = 0; i < MOST_MODELS; i++) {
        release(models[i]);
        models[i] = NULL;
    }
}

/* ---- bind: memory of onnxruntime's own, which is aligned alike in every process */

static bool count_bytes(End *end) {
    end->bytes = TYPES[end->type].bytes;
    for (size_t i = 0; i < end->rank; i++) {
        if (end->shape[i] < 0) return fail(UNSUPPORTED, "%s has a dimension that the file leaves open", end->name);
        if (__builtin_mul_overflow(end->bytes, (size_t)end->shape[i], &end->bytes))
            return fail(MEMORY, "%s is too large", end->name);
    }
    return true;
}

static bool create_value(End *end) {
    release_value(end);
    return check(ort.CreateTensorAsOrtValue(ort_allocator, end->shape, end->rank, end->type, &end->value), MEMORY);
}

static bool read_input(End *end, FILE *file, const char *path) {
    void *memory = NULL;
    if (!create_value(end) || !check(ort.GetTensorMutableData(end->value, &memory), MEMORY)) return false;
    if (end->bytes && fread(memory, 1, end->bytes, file) != end->bytes)
        return fail(ferror(file) ? IO : ARGUMENT, "%s ends before %s (%zu bytes) does", path, end->name, end->bytes);
    return true;
}

static bool read_inputs(Model *model, const char *path) {
    for (size_t i = 0; i < model->input_count; i++)
        if (!count_bytes(&model->inputs[i])) return false;
    FILE *file = fopen(path, "rb");
    if (!file) return fail(IO, "%s: %s", path, strerror(errno));
    bool done = true;
    for (size_t i = 0; i < model->input_count && done; i++) done = read_input(&model->inputs[i], file, path);
    if (done && fgetc(file) != EOF) done = fail(ARGUMENT, "%s holds more than the inputs of the model", path);
    fclose(file);
    return done;
}

/* Make the first call: it says what shapes the outputs have, whatever the file leaves open. */
static bool first_call(Model *model) {
    size_t in = model->input_count, out = model->output_count;
    const char **names = calloc(in + out + 1, sizeof *names);
    const OrtValue **inputs = calloc(in + 1, sizeof *inputs);
    OrtValue **outputs = calloc(out + 1, sizeof *outputs);
    bool done = (names && inputs && outputs) || fail(MEMORY, "no memory for %zu values", in + out);
    for (size_t i = 0; done && i < in; i++) names[i] = model->inputs[i].name, inputs[i] = model->inputs[i].value;
    for (size_t i = 0; done && i < out; i++) names[in + i] = model->outputs[i].name;
    done = done && check(ort.Run(model->session, NULL, names, inputs, in, names + in, out, outputs), CORRUPTED);
    for (size_t i = 0; i < out && outputs; i++) {
        OrtShapeInfo *shape = NULL;
        if (done) {
            done = check(ort.GetTensorTypeAndShape(outputs[i], &shape), UNSUPPORTED) &&
                   describe_shape(shape, &model->outputs[i]) && count_bytes(&model->outputs[i]);
            if (shape) ort.ReleaseTensorTypeAndShapeInfo(shape);
        }
        if (outputs[i]) ort.ReleaseValue(outputs[i]);
    }
    free(names);
    free(inputs);
    free(outputs);
    return done;
}

static bool bind_all(Model *model) {
    for (size_t i = 0; i < model->input_count; i++)
        if (!check(ort.BindInput(model->binding, model->inputs[i].name, model->inputs[i].value), CORRUPTED)) return false;
    for (size_t i = 0; i < model->output_count; i++) {
        End *end = &model->outputs[i];
        if (!create_value(end) || !check(ort.BindOutput(model->binding, end->name, end->value), CORRUPTED)) return false;
    }
    return true;
}

bool model_bind(long number, const char *path) {
    Model *model = find(number);
    if (!model) return false;
    if (model->binding) ort.ReleaseIoBinding(model->binding);
    model->binding = NULL;
    model->bound = false;
    if (!read_inputs(model, path) || !first_call(model)) return false;
    if (!check(ort.CreateIoBinding(model->session, &model->binding), MEMORY) || !bind_all(model)) return false;
    model->bound = true;
    put("{\"ok\": true");
    put_peak(model);
    put("}");
    put_line();
    return true;
}

/* ---- run and time */

static bool call(void *what) {
    const Model *model = what;
    return check(ort.RunWithBinding(model->session, NULL, model->binding), CORRUPTED);
}

static Model *find_bound(long number) {
    Model *model = find(number);
    if (model && !model->bound) fail(ARGUMENT, "model %ld has no inputs: bind comes first", number);
    return model && model->bound ? model : NULL;
}

static bool write_outputs(const Model *model, const char *path) {
    FILE *file = fopen(path, "wb");
    if (!file) return fail(IO, "%s: %s", path, strerror(errno));
    bool done = true;
    for (size_t i = 0; i < model->output_count && done; i++) {
        const End *end = &model->outputs[i];
        void *memory = NULL;
        done = check(ort.GetTensorMutableData(end->value, &memory), MEMORY) &&
               (fwrite(memory, 1, end->bytes, file) == end->bytes || fail(IO, "%s: %s", path, strerror(errno)));
    }
    if (fclose(file) && done) done = fail(IO, "%s: %s", path, strerror(errno));
    struct stat made;
    if (!done && lstat(path, &made) == 0 && S_ISREG(made.st_mode)) unlink(path);  // never a device such as /dev/full
    return done;
}

bool model_run(long number, const char *path) {
    Model *model = find_bound(number);
    if (!model || !call(model) || !write_outputs(model, path)) return false;
    put("{\"ok\": true");
    put_ends("outputs", model->outputs, model->output_count);
    put("}");
    put_line();
    return true;
}

bool model_time(long number, long warmups, long samples, long inner, bool cold) {
    Model *model = find_bound(number);
    return model && take_samples(call, model, warmups, samples, inner, cold);
}
