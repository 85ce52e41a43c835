#include "dsode.hpp"

#include "weights.hpp"

static int limited(int value, int low, int high) {
#pragma HLS INLINE
    return value < low ? low : value > high ? high : value;
}

// The nine products of PE channels. `window` goes row by row, from the upper left.
static void depthwise(const Word window[9], int row, Inner result[PE]) {
#pragma HLS INLINE
    for (int lane = 0; lane < PE; lane++) {
#pragma HLS UNROLL
        const unsigned long long nine = DEPTHWISE[row][lane];
        Depthwise total = DEPTHWISE_BIAS[row][lane];
        for (int tap = 0; tap < 9; tap++) {
#pragma HLS UNROLL
            const Weight weight = (nine >> 4 * tap) & 15;
            total = total + window[tap].lane[lane] * weight;
        }
        const Depthwise scaled = total >> DEPTHWISE_SHIFT[row][lane];
        result[lane] = scaled < 0 ? Inner(0) : scaled > 15 ? Inner(15) : Inner(scaled);
    }
}

// PE outputs over all inputs of a pixel, the old state added where `add` is set.
static Word pointwise(const Inner inner[CHANNELS], int row, int bias, bool add, const Word& old, int low,
                      int high) {
#pragma HLS INLINE
    Word result;
    for (int lane = 0; lane < PE; lane++) {
#pragma HLS UNROLL
        Pointwise total = POINTWISE_BIAS[bias][lane];
        for (int i = 0; i < CHANNELS; i++) {
#pragma HLS UNROLL
            const Weight weight = (POINTWISE[row][lane][i / 16] >> 4 * (i % 16)) & 15;
            total = total + inner[i] * weight;
        }
        Sum sum = total >> POINTWISE_SHIFT[row][lane];
        if (add) {
            sum = sum + old.lane[lane];
        }
        result.lane[lane] = limited(sum, low, high);
    }
    return result;
}

// One pass. A slot is one cycle: it reads a word, makes PE inner values of the pixel that the window stands on,
// and PE outputs of the pixel before that, whose inner values are complete.
//
// No DATAFLOW: both halves touch the banks, and the tool allows an array one reader and one writer among
// processes. One loop at II=1 overlaps them without a second copy of the state.
static void run(const Pass& pass, Word banks[2][WORDS]) {
    static Word lines[2][LINE_WORDS];      // the last two rows
    static Word columns[2][3][GROUPS];     // the window's left and middle column, of every word of a pixel
    static Word centre[GROUPS];            // what the window stood on last, until the slot that needs it
    static Inner inner[2][CHANNELS];       // inner values of a pixel, being collected and complete
#pragma HLS AGGREGATE variable=lines compact=bit
#pragma HLS AGGREGATE variable=columns compact=bit
#pragma HLS AGGREGATE variable=centre compact=bit
#pragma HLS ARRAY_PARTITION variable=lines dim=1 type=complete
#pragma HLS BIND_STORAGE variable=lines type=ram_s2p impl=lutram
#pragma HLS ARRAY_PARTITION variable=columns dim=0 type=complete
#pragma HLS ARRAY_PARTITION variable=centre dim=0 type=complete
#pragma HLS ARRAY_PARTITION variable=inner dim=0 type=complete

    const int pixels = pass.height * pass.width;
    const int slots = pass.in_words > pass.out_words ? pass.in_words : pass.out_words;
    const int total = (pixels + pass.width + 2) * slots;   // the window lags a row and a pixel, the outputs one

    int pixel = 0, group = 0;              // of what is read, and of the slot in the pixel
    int read = 0, line = 0, write = 0;     // addresses
    int y = -2, x = pass.width - 1;        // where the window stands: a row and a pixel back
    bool complete = false;                 // whether there is a pixel to give out

slots:
    for (int slot = 0; slot < total; slot++) {
#pragma HLS PIPELINE II=1
// Between slots of one pass only the source bank is read at `read` and the target bank at `write`, just before it
// is written there.
#pragma HLS DEPENDENCE variable=banks type=inter false
        LINES_DEPENDENCE                   // a word of `lines` comes back after a row, never sooner
        SLOTS_TRIPCOUNT
        const bool fresh = pixel < pixels;
        const bool reads = group < pass.in_words;
        const bool gives = complete && group < pass.out_words;

        Word found[2];
#pragma HLS AGGREGATE variable=found compact=bit
#pragma HLS ARRAY_PARTITION variable=found dim=0 type=complete
        for (int bank = 0; bank < 2; bank++) {
#pragma HLS UNROLL
            found[bank] = banks[bank][bank != pass.source ? (gives ? write : 0) : fresh && reads ? read : 0];
        }
        if (gives) {
            // f keeps the number of channels, so the window has not moved on in this word.
            const Word old = pass.skip == CENTRE ? centre[group] : found[1 - pass.source];
            banks[1 - pass.source][write] = pointwise(inner[1], pass.pointwise + group, pass.bias + group,
                                                      pass.skip != NONE, old, pass.low, pass.high);
            write++;
        }

        const bool wanted = y >= 0 && (pass.stride == 1 || (y % 2 == 0 && x % 2 == 0));
        if (reads) {
            Word window[9];
#pragma HLS AGGREGATE variable=window compact=bit
#pragma HLS ARRAY_PARTITION variable=window dim=0 type=complete
            const Word column[3] = {lines[1][line + group], lines[0][line + group], found[pass.source]};
            for (int row = 0; row < 3; row++) {
#pragma HLS UNROLL
                const bool outside = (row == 0 && y == 0) || (row == 2 && y == pass.height - 1);
                for (int lane = 0; lane < PE; lane++) {
#pragma HLS UNROLL
                    const Value left = columns[1][row][group].lane[lane];
                    const Value middle = columns[0][row][group].lane[lane];
                    const Value right = column[row].lane[lane];
                    window[3 * row].lane[lane] = outside || x == 0 ? Value(0) : left;
                    window[3 * row + 1].lane[lane] = outside ? Value(0) : middle;
                    window[3 * row + 2].lane[lane] = outside || x == pass.width - 1 ? Value(0) : right;
                }
                columns[1][row][group] = columns[0][row][group];
                columns[0][row][group] = column[row];
            }
            lines[1][line + group] = column[1];
            lines[0][line + group] = column[2];

            Inner values[PE];
            depthwise(window, pass.depthwise + group, values);
            for (int lane = 0; lane < PE; lane++) {
#pragma HLS UNROLL
                inner[0][group * PE + lane] = values[lane];
            }
            centre[group] = window[4];
            if (fresh) {
                read++;
            }
        }

        if (group < slots - 1) {
            group++;
        } else {
            for (int i = 0; i < CHANNELS; i++) {
#pragma HLS UNROLL
                inner[1][i] = inner[0][i];
            }
            complete = wanted;
            group = 0;
            pixel++;
            line = x == pass.width - 2 || pass.width == 1 ? 0 : line + pass.in_words;
            y = x == pass.width - 1 ? y + 1 : y;
            x = x == pass.width - 1 ? 0 : x + 1;
        }
    }
}

static const int PARTS = PE / BEAT;    // beats of a word

static void load(hls::stream<Beat>& input, Word bank[WORDS]) {
#pragma HLS INLINE off
    Word word;
#pragma HLS AGGREGATE variable=word compact=bit
    int part = 0, address = 0;
beats:
    for (int k = 0; k < INPUT_WORDS * PARTS; k++) {
#pragma HLS PIPELINE II=1
        const Beat beat = input.read();
        for (int lane = 0; lane < BEAT; lane++) {
#pragma HLS UNROLL
            word.lane[part * BEAT + lane] = Value(beat.data.range(8 * lane + 7, 8 * lane));
        }
        if (part == PARTS - 1) {
            bank[address++] = word;
        }
        part = part == PARTS - 1 ? 0 : part + 1;
    }
}

static void store(const Word bank[WORDS], hls::stream<Beat>& output) {
#pragma HLS INLINE off
    Word word;
#pragma HLS AGGREGATE variable=word compact=bit
    int part = 0, address = 0;
beats:
    for (int k = 0; k < OUTPUT_WORDS * PARTS; k++) {
#pragma HLS PIPELINE II=1
        if (part == 0) {
            word = bank[address++];
        }
        Beat beat;
        for (int lane = 0; lane < BEAT; lane++) {
#pragma HLS UNROLL
            const Value value = word.lane[part * BEAT + lane];
            beat.data.range(8 * lane + 7, 8 * lane) = value.range(7, 0);
        }
        beat.keep = -1;
        beat.strb = -1;
        beat.last = k == OUTPUT_WORDS * PARTS - 1;
        output.write(beat);
        part = part == PARTS - 1 ? 0 : part + 1;
    }
}

void dsode(hls::stream<Beat>& input, hls::stream<Beat>& output, int images) {
#pragma HLS INTERFACE mode=axis port=input
#pragma HLS INTERFACE mode=axis port=output
#pragma HLS INTERFACE mode=s_axilite port=images
#pragma HLS INTERFACE mode=s_axilite port=return
    static Word banks[2][WORDS];
#pragma HLS AGGREGATE variable=banks compact=bit
#pragma HLS ARRAY_PARTITION variable=banks dim=1 type=complete
    BANKS_STORAGE

#pragma HLS ARRAY_PARTITION variable=DEPTHWISE dim=2 type=complete
#pragma HLS ARRAY_PARTITION variable=DEPTHWISE_BIAS dim=2 type=complete
#pragma HLS ARRAY_PARTITION variable=DEPTHWISE_SHIFT dim=2 type=complete
#pragma HLS ARRAY_PARTITION variable=POINTWISE dim=2 type=complete
#pragma HLS ARRAY_PARTITION variable=POINTWISE dim=3 type=complete
#pragma HLS ARRAY_PARTITION variable=POINTWISE_BIAS dim=2 type=complete
#pragma HLS ARRAY_PARTITION variable=POINTWISE_SHIFT dim=2 type=complete
#pragma HLS BIND_STORAGE variable=DEPTHWISE type=rom_1p impl=lutram
#pragma HLS BIND_STORAGE variable=POINTWISE type=rom_1p impl=lutram

each_image:
    for (int image = 0; image < images; image++) {
        load(input, banks[0]);
    each_pass:
        for (int k = 0; k < PASSES; k++) {
            run(PROGRAM[k], banks);
        }
        store(banks[OUTPUT_BANK], output);
    }
}
